/** The bar as a terminal would show it; plain lines and their intervals, never both; and lines that break between words only. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { stripVTControlCharacters } from 'node:util';
import fc from 'fast-check';
import { barLine, createProgress, duration, type Moment, progressStyle, useColor, wrapText } from './index.js';
import { Terminal } from './testing/terminal.js';

const at = (step: number, steps = 100): Moment => ({
  step,
  steps,
  figures: (left) => [
    { text: `epoch ${step / 10}`, wanted: 1 },
    { text: `loss ${(1 / step).toFixed(3)}`, wanted: 3 },
    { text: left, wanted: 2, widest: 10 },
  ],
});

describe('the bar', () => {
  it('has a sixth of the columns, at least eight cells and at most 24, unless the first figure alone leaves less', () => {
    const figures = at(50).figures('9s left');
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 300 }), fc.double({ min: -1, max: 2, noNaN: true }), (columns, done) => {
        const { bar, text } = barLine(figures, done, columns);
        assert.ok(bar.length + text.length <= columns, `${bar}${text}`);
        if (columns >= 8 + 1 + 'epoch 5'.length) {
          assert.ok(bar.length >= 8 && bar.length <= 24, `${columns} columns: ${bar}`);
          if (bar.length < 24) assert.ok(bar.length >= Math.floor(columns / 6));
          assert.equal(bar.replaceAll('░', '').length, Math.round(bar.length * Math.min(1, Math.max(0, done))));
        }
      }),
    );
  });

  it('is one line; messages stand above it, whole, broken between words, and the last state stays', () => {
    const terminal = new Terminal(60);
    const progress = createProgress({ style: 'bar', color: true, stream: terminal });
    progress.message('before the first step');
    progress.update(at(1));
    progress.update(at(2));
    progress.message('a message that is longer than this terminal is wide, so that it goes on in a line of its own');
    progress.update(at(100));
    progress.finish();
    progress.finish();
    const rows = terminal.rows();
    assert.deepEqual(rows.slice(0, 3), [
      'before the first step',
      'a message that is longer than this terminal is wide, so that',
      '  it goes on in a line of its own',
    ]);
    assert.match(rows[3]!, /^█+ epoch 10 · loss 0\.010 · 0s left$/);
    assert.deepEqual(rows.slice(4), ['']);
    assert.ok(terminal.written.includes('\x1b[36m'));
  });

  it('has no colours where none are wanted, and leaves no terminal mode behind', () => {
    const terminal = new Terminal(100);
    const progress = createProgress({ style: 'bar', color: false, stream: terminal });
    progress.update(at(1));
    progress.finish();
    const rest = terminal.written.replaceAll('\r\x1b[K', '');
    assert.equal(stripVTControlCharacters(rest), rest);
  });
});

describe('plain lines', () => {
  it('come for the first step, at the interval, and for the last; without any control codes', () => {
    const terminal = new Terminal(80);
    const progress = createProgress({ style: 'plain', color: true, stream: terminal, everySteps: 40, everyMs: 1e9 });
    for (let step = 1; step <= 100; step++) progress.update(at(step));
    progress.message('said');
    progress.finish();
    const steps = terminal.rows().map((row) => /epoch ([\d.]+)/.exec(row)?.[1] ?? row);
    assert.deepEqual(steps, ['0.1', '4.1', '8.1', '10', 'said', '']);
    assert.equal(stripVTControlCharacters(terminal.written).replaceAll('\r', ''), terminal.written);
    assert.match(terminal.written, /^epoch 0\.1 {2}loss 1\.000 {2}… left\n/);
  });

  it('without the ends come at the interval alone', () => {
    const terminal = new Terminal(80);
    const progress = createProgress({
      style: 'plain',
      color: false,
      stream: terminal,
      everySteps: 60,
      everyMs: 1e9,
      ends: false,
    });
    for (let step = 1; step <= 100; step++) progress.update(at(step));
    assert.match(terminal.written, /^epoch 6 [^\n]*\n$/);
  });

  it('none shows messages alone', () => {
    const terminal = new Terminal(80);
    const progress = createProgress({ style: 'none', color: false, stream: terminal });
    progress.update(at(1));
    progress.message('said');
    assert.equal(terminal.written, 'said\n');
  });
});

describe('lines', () => {
  const words = fc.array(fc.string({ minLength: 1, maxLength: 30, unit: fc.constantFrom('a', '-', '/', '=') }), {
    minLength: 1,
  });

  it('break between words, at any width, and lose nothing', () => {
    fc.assert(
      fc.property(words, fc.integer({ min: 1, max: 100 }), fc.constantFrom('', ' \\'), (list, columns, mark) => {
        const lines = wrapText(list.join(' '), columns, mark).split('\n');
        const all = lines.map((line, i) => (mark !== '' && i < lines.length - 1 ? line.slice(0, -mark.length) : line));
        assert.equal(all.join('').replaceAll(' ', ''), list.join(''));
        const isWhole = (word: string) => list.includes(word);
        for (const [i, line] of lines.entries()) {
          const own = all[i]!.trim().split(' ');
          // Longer only by a word that is longer than a line, or by what stands between two slashes of one.
          assert.ok(line.length <= columns || own.length === 1, `${columns}: ${line}`);
          // A part of a word ends in a slash, or follows one; with a mark there are none.
          for (const [j, word] of own.entries()) {
            const isBroken = !isWhole(word);
            const atSlash = word.endsWith('/') || all[i - 1]?.endsWith('/');
            assert.ok(
              !isBroken || (mark === '' && atSlash && (j === 0 || j === own.length - 1)),
              `${columns}: ${lines}`,
            );
          }
        }
      }),
    );
  });

  it('keep what fits as it is, blanks of a table included, and their indentation', () => {
    assert.equal(wrapText('a   b\n  c\n', 10), 'a   b\n  c\n');
    assert.equal(wrapText('it is 98.4 %, more', 12), 'it is\n  98.4 %,\n  more');
    assert.equal(wrapText('saved long/folder/file.txt', 14), 'saved\n  long/folder/\n  file.txt');
    assert.equal(wrapText('    one two three', 12), '    one two\n      three');
    assert.equal(wrapText('run --a=1 --b=2 --c=3', 13, ' \\'), 'run --a=1 \\\n--b=2 --c=3');
  });
});

describe('style', () => {
  it('follows what is asked for, NO_COLOR, TERM and the terminal, in this order', () => {
    const tty = { isTTY: true };
    const pipe = {};
    assert.equal(useColor('auto', tty, {}), true);
    assert.equal(useColor('auto', pipe, {}), false);
    assert.equal(useColor('auto', tty, { NO_COLOR: '1' }), false);
    assert.equal(useColor('auto', tty, { NO_COLOR: '' }), true);
    assert.equal(useColor('auto', tty, { TERM: 'dumb' }), false);
    assert.equal(useColor('always', pipe, { NO_COLOR: '1' }), true);
    assert.equal(useColor('never', tty, {}), false);
    assert.equal(progressStyle('auto', tty, {}), 'bar');
    assert.equal(progressStyle('auto', tty, { TERM: 'dumb' }), 'plain');
    assert.equal(progressStyle('auto', pipe, {}), 'plain');
    assert.equal(progressStyle('bar', pipe, {}), 'bar');
    assert.equal(progressStyle('none', tty, {}), 'none');
  });
});

describe('duration', () => {
  it('has two units at most', () => {
    assert.deepEqual([0, 0.4, 59.6, 95, 3600, 7384].map(duration), ['0s', '0s', '1m 0s', '1m 35s', '1h 0m', '2h 3m']);
  });
});
