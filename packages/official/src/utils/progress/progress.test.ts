/** The figures of a training run at every width of a terminal, as it would show them; and what the screen leaves out. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { stripVTControlCharacters } from 'node:util';
import { barLine, createProgress } from '@lockstep/distribute/progress';
import fc from 'fast-check';
import { figuresOf, momentOf, type TrainingProgress } from './progress.js';
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

/** What was written to a pipe. */
class Pipe {
  written = '';

  write(text: string): boolean {
    this.written += text;
    return true;
  }

  get stream(): NodeJS.WriteStream {
    return this as unknown as NodeJS.WriteStream;
  }
}

describe('the figures', () => {
  const line = (columns: number, left = '1m 5s left') => barLine(figuresOf(at(50), left), 0.5, columns);

  it('are epoch, step, loss, accuracy, images a second and time left, beside a bar of 24 cells where there is room', () => {
    const { bar, text } = line(119);
    assert.equal(bar, '█'.repeat(12) + '░'.repeat(12));
    assert.equal(text, ' epoch 5.0/10 · step 50/100 · loss 1.235 · accuracy 50.0 % · 988 images/s · 1m 5s left');
  });

  it('at 80 and 40 columns leave a bar of a sixth at least, and give up the least wanted first', () => {
    // One column less, as the bar does.
    const [at80, at40] = [line(79), line(39)];
    assert.equal(at80.text, ' epoch 5.0/10 · accuracy 50.0 % · 988 images/s · 1m 5s left');
    assert.equal(at80.bar.length, 16);
    assert.equal(at40.text, ' epoch 5.0/10 · 1m 5s left');
    assert.equal(at40.bar.length, 11);
    assert.deepEqual(line(20), { bar: '', text: 'epoch 5.0/10' });
    assert.equal(line(100).text, ' epoch 5.0/10 · loss 1.235 · accuracy 50.0 % · 988 images/s · 1m 5s left');
  });

  it('fit every width, and stay in their columns while a run goes on', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 200 }), fc.integer({ min: 0, max: 100_000 }), (columns, step) => {
        const { bar, text } = barLine(figuresOf(at(step, 100_000), '23h 59m left'), step / 100_000, columns);
        assert.ok(bar.length + text.length <= columns, `${bar}${text}`);
      }),
    );
    for (const columns of [39, 79, 119]) {
      const seen = [1, 50, 99, 100].map((step) => {
        const state = { ...at(step), accuracy: step / 100, imagesPerSecond: 10 * step };
        const { bar, text } = barLine(figuresOf(state, step < 99 ? '1m 5s left' : '0s left'), step / 100, columns);
        return `${bar.length} ${text.replaceAll(/[\d. ]+/g, '')}`.replace('ms', 's');
      });
      assert.equal(new Set(seen).size, 1, `${columns} columns: ${seen.join('\n')}`);
    }
  });

  it('show neither the number of steps nor time left where nothing ends them', () => {
    const state = at(50, Number.POSITIVE_INFINITY);
    assert.match(barLine(figuresOf(state, 'no end'), 0, 200).text, /· step 50 · .* · no end$/);
  });

  it('are a line in a pipe', () => {
    const pipe = new Pipe();
    const progress = createProgress({ style: 'plain', color: false, stream: pipe.stream });
    progress.update(momentOf(at(1)));
    assert.equal(pipe.written, 'epoch 0.1/10  step 1/100  loss 1.235  accuracy 50.0 %  988 images/s  … left\n');
  });
});

describe('the screen', () => {
  const flags = { progress: 'plain', color: 'never', log_steps: 100 } as const;

  it('brief leaves out details, never warnings; silent says nothing', () => {
    const say = (options: { brief?: boolean; silent?: boolean }) => {
      const pipe = new Pipe();
      const { log, detail, progress } = createScreen(flags, { stream: pipe.stream, ...options });
      log.info('result');
      log.warning('careful');
      detail.info('detail');
      detail.warning('odd');
      progress.update(momentOf(at(1)));
      assert.equal(stripVTControlCharacters(pipe.written), pipe.written);
      return pipe.written;
    };
    assert.match(say({}), /^result\nwarning: careful\ndetail\nwarning: odd\nepoch /);
    assert.match(say({ brief: true }), /^result\nwarning: careful\nwarning: odd\nepoch /);
    assert.equal(say({ silent: true }), '');
  });
});
