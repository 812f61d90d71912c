/** The bar on terminals of every width, as a terminal would show it; plain lines and their intervals; never both. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { stripVTControlCharacters } from 'node:util';
import fc from 'fast-check';
import { barLine, createProgress, duration, type TrainingProgress } from './progress.js';
import { createScreen } from './screen.js';

const at = (step: number, steps = 100): TrainingProgress => ({
  step,
  steps,
  epoch: step / 10,
  epochs: steps / 10,
  loss: 1.23456,
  accuracy: 0.5,
  imagesPerSecond: 987.6,
});

/** Enough of a terminal for one line that is written over: rows as they can be read at the end. */
class Terminal {
  readonly isTTY = true;
  written = '';

  constructor(readonly columns: number) {}

  write(text: string): boolean {
    this.written += text;
    return true;
  }

  rows(): string[] {
    return this.written.split('\n').map((row) => {
      const last = row.split('\r\x1b[K').at(-1) as string;
      return stripVTControlCharacters(last);
    });
  }

  get stream(): NodeJS.WriteStream {
    return this as unknown as NodeJS.WriteStream;
  }
}

describe('the bar', () => {
  it('shows neither the number of steps nor time left where nothing ends them', () => {
    assert.match(barLine(at(50, Number.POSITIVE_INFINITY), 'no end', 200).text, /· step 50 · .* · no end$/);
  });

  it('shows epoch, step, loss, accuracy, images a second and time left', () => {
    const { bar, text } = barLine(at(50), '1m 5s left', 119);
    assert.equal(bar, '█'.repeat(12) + '░'.repeat(12));
    assert.equal(text, ' epoch 5.0/10 · step 50/100 · loss 1.235 · accuracy 50.0 % · 988 images/s · 1m 5s left');
  });

  it('fits every width, and gives up the least wanted first', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 200 }), fc.integer({ min: 0, max: 100_000 }), (columns, step) => {
        const { bar, text } = barLine(at(step, 100_000), '23h 59m left', columns);
        assert.ok(bar.length + text.length <= columns, `${bar}${text}`);
      }),
    );
    assert.equal(
      barLine(at(50), '9s left', 79).text,
      ' epoch 5.0/10 · loss 1.235 · accuracy 50.0 % · 988 images/s · 9s left',
    );
    assert.equal(barLine(at(50), '9s left', 56).text, 'epoch 5.0/10 · loss 1.235 · accuracy 50.0 % · 9s left');
    assert.equal(barLine(at(50), '9s left', 35).text, 'epoch 5.0/10 · accuracy 50.0 %');
    assert.equal(barLine(at(50), '9s left', 14).text, 'epoch 5.0/10');
  });

  it('is one line; messages stand above it, whole, and the last state stays', () => {
    const terminal = new Terminal(60);
    const progress = createProgress({ style: 'bar', color: true, stream: terminal.stream });
    progress.message('before the first step');
    progress.update(at(1));
    progress.update(at(2));
    const long = 'a message that is longer than this terminal is wide, so that the terminal itself has to wrap it';
    progress.message(long);
    progress.update(at(100));
    progress.finish();
    progress.finish();
    const rows = terminal.rows();
    assert.equal(rows.length, 4);
    assert.deepEqual(rows.slice(0, 2), ['before the first step', long]);
    assert.match(rows[2]!, /epoch 10\.0\/10 .* 0s left$/);
    assert.equal(rows[3], '');
    assert.ok(terminal.written.includes('\x1b[36m'));
  });

  it('has no colours where none are wanted, and leaves no terminal mode behind', () => {
    const terminal = new Terminal(100);
    const progress = createProgress({ style: 'bar', color: false, stream: terminal.stream });
    progress.update(at(1));
    progress.finish();
    const rest = terminal.written.replaceAll('\r\x1b[K', '');
    assert.equal(stripVTControlCharacters(rest), rest);
  });
});

describe('plain lines', () => {
  it('come for the first step, at the interval, and for the last; without any control codes', () => {
    const terminal = new Terminal(80);
    const progress = createProgress({
      style: 'plain',
      color: true,
      stream: terminal.stream,
      everySteps: 40,
      everyMs: 1e9,
    });
    for (let step = 1; step <= 100; step++) progress.update(at(step));
    progress.message('said');
    progress.finish();
    const steps = terminal.rows().map((row) => /step (\d+)\//.exec(row)?.[1] ?? row);
    assert.deepEqual(steps, ['1', '41', '81', '100', 'said', '']);
    assert.equal(stripVTControlCharacters(terminal.written).replaceAll('\r', ''), terminal.written);
    assert.match(
      terminal.written,
      /^epoch 0\.1\/10 {2}step 1\/100 {2}loss 1\.235 {2}accuracy 50\.0 % {2}988 images\/s {2}… left\n/,
    );
  });

  it('none shows messages alone', () => {
    const terminal = new Terminal(80);
    const progress = createProgress({ style: 'none', color: false, stream: terminal.stream });
    progress.update(at(1));
    progress.message('said');
    assert.equal(terminal.written, 'said\n');
  });
});

describe('the screen', () => {
  const flags = { progress: 'plain', color: 'never', log_steps: 100 } as const;

  it('brief leaves out details, never warnings; silent says nothing', () => {
    const say = (options: { brief?: boolean; silent?: boolean }) => {
      const terminal = new Terminal(80);
      const { log, detail, progress } = createScreen(flags, { stream: terminal.stream, ...options });
      log.info('result');
      log.warning('careful');
      detail.info('detail');
      detail.warning('odd');
      progress.update(at(1));
      return terminal.written;
    };
    assert.match(say({}), /^result\nwarning: careful\ndetail\nwarning: odd\nepoch /);
    assert.match(say({ brief: true }), /^result\nwarning: careful\nwarning: odd\nepoch /);
    assert.equal(say({ silent: true }), '');
  });
});

describe('duration', () => {
  it('has two units at most', () => {
    assert.deepEqual([0, 0.4, 59.6, 95, 3600, 7384].map(duration), ['0s', '0s', '1m 0s', '1m 35s', '1h 0m', '2h 3m']);
  });
});
