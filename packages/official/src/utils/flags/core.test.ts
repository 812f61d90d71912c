/*
 * The flag system against absl's documented rules and upstream's flags_test.py. Nothing here knows how flags are kept.
 */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import fc from 'fast-check';
import {
  flags as defaultFlags,
  defineBase,
  defineBaseEager,
  defineBenchmark,
  defineDevice,
  defineImage,
  defineLockstep,
  definePerformance,
  FlagDefinitionError,
  FlagValues,
  getLossScale,
  getNumGpus,
  getTfDtype,
  helpWrap,
  parseFlags,
  requireCloudStorage,
  setDefaults,
  UsageError,
} from './core.js';
import { editDistance, nearestName } from './nearest.js';

/** Flags of every kind, each without a default where that is possible. */
function everyKind(): FlagValues {
  const flags = new FlagValues({ program: 'prog' });
  flags.DEFINE_string({ name: 'text', shortName: 't', default: null, help: 'A text.' });
  flags.DEFINE_bool({ name: 'switch', shortName: 's', default: false, help: 'A switch.' });
  flags.DEFINE_integer({ name: 'count', shortName: 'c', default: 3, lowerBound: -1, upperBound: 99, help: 'A count.' });
  flags.DEFINE_float({ name: 'rate', default: 0.5, help: 'A rate.' });
  flags.DEFINE_enum({ name: 'kind', default: 'fp32', enumValues: ['fp16', 'fp32'], help: 'A kind.' });
  flags.DEFINE_list({ name: 'names', default: 'a,b', help: 'Names.' });
  flags.DEFINE_multi_string({ name: 'word', default: ['x'], help: 'Words.' });
  flags.DEFINE_multi_integer({ name: 'number', default: null, help: 'Numbers.' });
  flags.DEFINE_multi_float({ name: 'ratio', default: null, help: 'Ratios.' });
  return flags;
}

/** All values after a command line, as a plain object. */
function valuesAfter(argv: string[], flags = everyKind()): Record<string, unknown> {
  assert.equal(flags.parse(argv).help, null);
  return { ...flags.values() };
}

function usageError(argv: string[], flags = everyKind()): UsageError {
  try {
    flags.parse(argv);
  } catch (error) {
    assert.ok(error instanceof UsageError, String(error));
    return error;
  }
  assert.fail(`no error for ${argv.join(' ')}`);
}

describe('a whole number that may be said by a word', () => {
  const flags = new FlagValues({ program: 'prog' });
  flags.DEFINE_integer({ name: 'packs', default: 1, words: ['auto'], lowerBound: 1, help: 'Packs.', key: true });

  it('is the number or the word', () => {
    for (const [argv, value] of [
      [['--packs=auto'], 'auto'],
      [['--packs', '8'], 8],
      [[], 1],
    ] as const) {
      assert.deepEqual(valuesAfter([...argv], flags), { packs: value });
    }
  });

  it('refuses other words and numbers, and says what it takes', () => {
    assert.match(usageError(['--packs=automatic'], flags).message, /value should be an integer or auto/);
    assert.match(usageError(['--packs=0'], flags).message, /at least 1/);
    assert.match(flags.parse(['--help']).help?.text as string, /--packs=INTEGER\|auto|INTEGER\|auto/);
  });
});

describe('ways to write a flag', () => {
  const defaults = {
    text: null,
    switch: false,
    count: 3,
    rate: 0.5,
    kind: 'fp32',
    names: ['a', 'b'],
    word: ['x'],
    number: null,
    ratio: null,
  };
  const cases: [string[], Record<string, unknown>][] = [
    [[], {}],
    [['--text=a b'], { text: 'a b' }],
    [['--text', 'value'], { text: 'value' }],
    [['-text=value'], { text: 'value' }],
    [['-t', 'value'], { text: 'value' }],
    [['--t=value'], { text: 'value' }],
    [['--text='], { text: '' }],
    [['--text=a=b'], { text: 'a=b' }],
    [['--text=--odd'], { text: '--odd' }],
    [['--switch'], { switch: true }],
    [['-s'], { switch: true }],
    [['--noswitch'], { switch: false }],
    [['--switch', '--noswitch'], { switch: false }],
    [['--nos', '--s'], { switch: true }],
    [['--switch=true'], { switch: true }],
    [['--switch=T'], { switch: true }],
    [['--switch=1'], { switch: true }],
    [['--switch', '--switch=False'], { switch: false }],
    [['--switch', '--switch=f'], { switch: false }],
    [['--switch', '--switch=0'], { switch: false }],
    [['--count=7'], { count: 7 }],
    [['--count', '-1'], { count: -1 }],
    [['-c', '5', '-c', '6'], { count: 6 }],
    [['--count=0x10'], { count: 16 }],
    [['--rate=1e-4'], { rate: 1e-4 }],
    [['--rate=.25'], { rate: 0.25 }],
    [['--rate=2.'], { rate: 2 }],
    [['--rate', '-3'], { rate: -3 }],
    [['--rate=-inf'], { rate: Number.NEGATIVE_INFINITY }],
    [['--rate=nan'], { rate: Number.NaN }],
    [['--kind=fp16'], { kind: 'fp16' }],
    [['--names=one'], { names: ['one'] }],
    [['--names= one , two '], { names: ['one', 'two'] }],
    [['--names='], { names: [] }],
    [['--word=a', '--word', 'b'], { word: ['a', 'b'] }],
    [['--number=1', '--number=2'], { number: [1, 2] }],
    [['--ratio=1', '--ratio=.5'], { ratio: [1, 0.5] }],
  ];
  for (const [argv, changed] of cases) {
    it(argv.join(' ') || '(nothing)', () => assert.deepEqual(valuesAfter(argv), { ...defaults, ...changed }));
  }

  it('reads back every integer and every finite number it is given', () => {
    const flags = new FlagValues();
    flags.DEFINE_integer({ name: 'i', default: 0, help: '' });
    flags.DEFINE_float({ name: 'f', default: 0, help: '' });
    fc.assert(
      fc.property(fc.maxSafeInteger(), fc.double({ noNaN: true }), (i, f) => {
        flags.parse([`--i=${i}`, '--f', String(f)]);
        assert.equal(flags.get('i'), i);
        assert.equal(flags.get('f'), f === 0 ? 0 : f);
      }),
    );
  });

  it('keeps values apart between instances and forgets them at the next parse', () => {
    const one = everyKind();
    const two = everyKind();
    one.parse(['--count=8', '--word=z']);
    two.parse([]);
    assert.equal(two.get('count'), 3);
    assert.equal(one.isGiven('count'), true);
    one.parse([]);
    assert.equal(one.get('count'), 3);
    assert.deepEqual(one.get('word'), ['x']);
    assert.equal(one.isGiven('count'), false);
  });

  it('returns arguments that are no flags where they are allowed', () => {
    const flags = everyKind();
    const { positionals } = flags.parse(['first', '--count=2', 'second', '--', '--third'], { allowPositionals: true });
    assert.deepEqual(positionals, ['first', 'second', '--third']);
    assert.equal(flags.get('count'), 2);
  });
});

describe('errors name flag, value and remedy', () => {
  const cases: [string[], RegExp[]][] = [
    [['--cuont=5'], [/Unknown command line flag '--cuont=5'/, /Did you mean --count=5\?/, /prog --helpfull/]],
    [['--noswich'], [/Did you mean --noswitch\?/]],
    [['--qqqqqqqqqqqqqqq'], [/nearest known flag is --\w+\./]],
    [['--count=many'], [/flag --count=many: value should be an integer/, /--count=3/]],
    [['--count=1.5'], [/an integer/]],
    [['--count='], [/flag --count=: value should be an integer/]],
    [['--count=100'], [/flag --count=100: value should be in the range \[-1, 99\]/, /default is 3/]],
    [['--count=99999999999999999999'], [/too large/]],
    [['--rate=fast'], [/flag --rate=fast: value should be a number/]],
    [['--rate=0x10'], [/a number/]],
    [['--kind=int8'], [/flag --kind=int8: value should be one of <fp16\|fp32>/, /default is fp32/]],
    [['--kind=FP16'], [/Letters count as written: --kind=fp16/]],
    [['--switch=maybe'], [/flag --switch=maybe: value should be true or false/, /--noswitch/]],
    [['--noswitch=true'], [/--noswitch takes no value/]],
    [['--notext'], [/--text is no true\/false flag/]],
    [['--text'], [/flag --text: a value is missing; nothing follows/, /--text=VALUE/]],
    [
      ['--text', '--count=3'],
      [/a value is missing; --count=3 follows/, /--text=--count=3 if that is the value/],
    ],
    [
      ['--switch', 'false'],
      [/Unexpected argument 'false'/, /--switch=false/],
    ],
    [['count=3'], [/Unexpected argument 'count=3'/, /--count=3/]],
    [['--count', '=', '3'], [/flag --count==: value should be an integer/]],
    [['--', 'rest'], [/Unexpected argument 'rest'/]],
    [['--'.concat('flagfile')], [/--flagfile: no path is given/]],
  ];
  for (const [argv, patterns] of cases) {
    it(argv.join(' '), () => {
      const { message, remedy } = usageError(argv);
      for (const pattern of patterns) assert.match(message, pattern);
      assert.ok(message.endsWith(remedy) && remedy.length > 10);
    });
  }

  it('gives flag and value as fields', () => {
    const error = usageError(['--kind=int8']);
    assert.deepEqual([error.flag, error.value], ['kind', 'int8']);
  });

  it('finds the nearest name', () => {
    const names = ['data_dir', 'batch_size', 'train_epochs', 'epochs_between_evals', 'resnet_size'];
    for (const [typed, expected] of [
      ['batch-size', 'batch_size'],
      ['batchsize', 'batch_size'],
      ['Batch_Size', 'batch_size'],
      ['batch', 'batch_size'],
      ['bacth_size', 'batch_size'],
      ['dir', 'data_dir'],
      ['trainepoch', 'train_epochs'],
      ['epochs', 'train_epochs'],
      ['rsnet_sise', 'resnet_size'],
    ] as const) {
      assert.equal(nearestName(typed, names)!.name, expected, typed);
      assert.equal(nearestName(typed, names)!.likely, true, typed);
    }
    assert.deepEqual(
      [nearestName('lr', ['ls', 'rate'])!.name, nearestName('lr', ['ls', 'rate'])!.likely],
      ['ls', false],
    );
    assert.equal(nearestName('x', []), null);
    // Published examples of the distance: kitten/sitting 3; a swap of neighbours counts once.
    assert.equal(editDistance('kitten', 'sitting'), 3);
    assert.equal(editDistance('abcd', 'acbd'), 1);
    assert.equal(editDistance('', 'abc'), 3);
  });
});

describe('validators', () => {
  it('pass on any truthy value and fail on falsy ones and exceptions', () => {
    for (const [result, passes] of [
      [true, true],
      ['yes', true],
      [1, true],
      [[], true],
      [false, false],
      [null, false],
      [undefined, false],
      [0, false],
      ['', false],
    ] as const) {
      const flags = everyKind();
      flags.registerValidator('count', () => result, 'count is bad');
      if (passes) flags.parse([]);
      else assert.match(usageError([], flags).message, /^flag --count=3: count is bad\. /);
    }
    const flags = everyKind();
    flags.registerValidator(
      'text',
      () => {
        throw new Error('because');
      },
      'text is bad',
    );
    assert.match(usageError(['--text=q'], flags).message, /flag --text=q: text is bad \(because\)/);
    assert.throws(() => flags.get('text'), FlagDefinitionError);
  });

  it('see several flags at once', () => {
    const flags = everyKind();
    flags.registerMultiFlagsValidator(['count', 'text'], (v) => v.count !== 7 || v.text, 'seven needs text');
    flags.parse(['--count=6']);
    flags.parse(['--count=7', '--text=x']);
    assert.match(usageError(['--count=7'], flags).message, /^flags --count=7, --text=none: seven needs text\. /);
  });

  it('undo an assignment that they refuse', () => {
    const flags = everyKind();
    flags.registerValidator('count', (value) => value !== 13, 'not thirteen');
    flags.parse([]);
    flags.set('count', 12);
    assert.throws(() => flags.set('count', 13), UsageError);
    assert.equal(flags.get('count'), 12);
  });
});

describe('definitions, defaults and reading', () => {
  it('refuses names that are taken, ill-formed or unknown', () => {
    const flags = everyKind();
    assert.throws(() => flags.DEFINE_bool({ name: 'count', default: false, help: '' }), /already has/);
    assert.throws(() => flags.DEFINE_bool({ name: 'other', shortName: 'c', default: false, help: '' }), /--count/);
    assert.throws(() => flags.DEFINE_bool({ name: 'help', default: false, help: '' }), FlagDefinitionError);
    assert.throws(() => flags.DEFINE_bool({ name: 'a-b', default: false, help: '' }), /no flag name/);
    assert.throws(() => flags.setDefaults({ cout: 3 }), /--cout is not defined; the nearest is --count/);
    assert.throws(() => flags.declareKeyFlags(['nothing']), FlagDefinitionError);
    assert.throws(() => flags.registerValidator('nothing', () => true, ''), FlagDefinitionError);
    assert.throws(() => flags.DEFINE_integer({ name: 'n', default: 5, lowerBound: 6, help: '' }), /at least 6/);
    assert.throws(() => flags.DEFINE_integer({ name: 'n', default: 1.5, help: '' }), FlagDefinitionError);
  });

  it('set_defaults yields to the command line', () => {
    const flags = everyKind();
    flags.setDefaults({ count: 50, names: ['q'], switch: true, rate: '0.125' });
    flags.parse(['--count=51']);
    assert.deepEqual(
      [flags.get('count'), flags.get('names'), flags.get('switch'), flags.get('rate')],
      [51, ['q'], true, 0.125],
    );
    flags.parse([]);
    assert.equal(flags.get('count'), 50);
  });

  it('refuses reading before parsing, writing, and unknown names', () => {
    const flags = everyKind();
    const values = flags.FLAGS as unknown as Record<string, unknown>;
    assert.throws(() => values.count, /before the flags were parsed/);
    flags.parse([]);
    assert.equal(values.count, 3);
    assert.throws(() => {
      values.count = 4;
    }, /read-only/);
    assert.throws(() => values.cnt, /nearest is --count/);
    assert.equal('count' in values, true);
    assert.deepEqual({ ...values }, { ...flags.values() });
    assert.deepEqual(structuredClone({ ...flags.values() }), { ...flags.values() });
  });
});

describe('help', () => {
  it('shows key flags with --help and -h, all with --helpfull, grouped, with defaults and allowed values', () => {
    const flags = new FlagValues({ program: 'prog', summary: 'Does it.', examples: ['prog --count=2'] });
    flags.DEFINE_integer({ name: 'count', shortName: 'c', default: 3, help: 'Counts.', group: 'First', key: true });
    flags.DEFINE_enum({ name: 'kind', default: 'a', enumValues: ['a', 'b'], help: 'Kind.', group: 'Second' });
    flags.DEFINE_bool({ name: 'go', default: false, help: 'Goes.', group: 'First', key: true });
    flags.declareKeyFlags(['count']);
    for (const argv of [['--help'], ['-h'], ['--h'], ['--unknown=1', '--help']]) {
      const { help } = flags.parse(argv);
      assert.equal(help!.full, false);
      assert.match(help!.text, /^Does it\.\n\nUsage: prog \[--flag=value/);
      assert.match(help!.text, / {2}prog --count=2\n/);
      assert.match(help!.text, /First:\n {2}--count=INTEGER, -c\n {6}Counts\. \(default: 3\)\n {2}--\[no\]go\n/);
      assert.doesNotMatch(help!.text, /--kind|Second/);
      assert.match(help!.text, /1 more flags: --helpfull/);
    }
    const { help } = flags.parse(['--helpfull']);
    assert.equal(help!.full, true);
    assert.match(help!.text, /Second:\n {2}--kind=a\|b\n {6}Kind\. \(default: a\)/);
    assert.match(help!.text, /--flagfile=STRING/);
    assert.equal(flags.parse(['--', '--help'], { allowPositionals: true }).help, null);
  });

  it('wraps at 80 columns', () => {
    fc.assert(
      fc.property(fc.array(fc.stringMatching(/^[a-z]{1,20}$/), { minLength: 1, maxLength: 60 }), (words) => {
        const lines = helpWrap(words.join(' '), 80, 6).split('\n');
        for (const line of lines) assert.ok(line.length <= 80 && line.startsWith('      '));
        assert.deepEqual(lines.join(' ').trim().split(/\s+/), words);
      }),
    );
    assert.equal(helpWrap('x'.repeat(100)), 'x'.repeat(100));
    assert.equal(helpWrap('a\nb'), 'a\nb');
  });
});

describe('flag files', () => {
  let dir = '';
  before(() => {
    dir = mkdtempSync(path.join(tmpdir(), 'flagfile-'));
    mkdirSync(path.join(dir, 'sub'));
    const file = (name: string, text: string) => writeFileSync(path.join(dir, name), text);
    file('a', '# comment\n\n  // another\n--count=5\r\n--text a b \n--flagfile=sub/b\n--switch\n');
    file('sub/b', '--rate=2\n-c 6\n');
    file('two-lines', '--text\nvalue\n');
    file('circle', '--count=1\n--flagfile=sub/circle\n');
    file('sub/circle', '--flagfile=../circle\n');
    file('twice', '--flagfile=sub/b\n--flagfile sub/b\n');
    file('bad', '\n--count=x\n');
    file('unknown', '--cuont=1\n');
    file('no-path', '--flagfile=\n');
  });
  after(() => rmSync(dir, { recursive: true }));
  const at = (name: string) => path.join(dir, name);

  it('puts the lines in place, nested ones too; what follows wins', () => {
    const values = valuesAfter(['--count=1', `--flagfile=${at('a')}`, '--rate=3']);
    assert.deepEqual([values.count, values.text, values.rate, values.switch], [6, 'a b', 3, true]);
    assert.equal(valuesAfter([`--flagfile=${at('a')}`, '-c', '9']).count, 9);
    assert.equal(valuesAfter(['--flagfile', at('two-lines')]).text, 'value');
    assert.equal(valuesAfter([`--flagfile=${at('twice')}`]).rate, 2);
  });

  it('names file and line in errors', () => {
    assert.match(usageError([`--flagfile=${at('bad')}`]).message, /--count=x \(.*bad, line 2\): value should be/);
    assert.match(usageError([`--flagfile=${at('unknown')}`]).message, /'--cuont=1' \(.*unknown, line 1\)/);
    assert.match(
      usageError([`--flagfile=${at('circle')}`]).message,
      /includes itself: .*circle -> .*circle -> .*circle/,
    );
    assert.match(
      usageError([`--flagfile=${at('missing')}`]).message,
      /missing: the file cannot be read: it is not there \(ENOENT\)/,
    );
    assert.match(usageError([`--flagfile=${dir}`]).message, /: it is a folder\./);
    assert.match(usageError([`--flagfile=${at('no-path')}`]).message, /line 1\): no path is given/);
  });
});

describe("upstream's flags_test.py", () => {
  function defineFlags(): FlagValues {
    const flags = new FlagValues();
    defineBase({}, flags);
    definePerformance({ dynamic_loss_scale: true }, flags);
    defineImage({}, flags);
    defineBenchmark({}, flags);
    return flags;
  }

  it('set_defaults are read back', () => {
    const flags = defineFlags();
    const defaults = {
      data_dir: 'dfgasf',
      model_dir: 'dfsdkjgbs',
      train_epochs: 534,
      epochs_between_evals: 15,
      batch_size: 256,
      hooks: ['LoggingTensorHook'],
      num_parallel_calls: 18,
      inter_op_parallelism_threads: 5,
      intra_op_parallelism_threads: 10,
      data_format: 'channels_first',
    } as const;
    setDefaults(defaults, flags);
    parseFlags([], flags);
    for (const [name, value] of Object.entries(defaults)) assert.deepEqual(flags.get(name), value, name);
  });

  it('benchmark defaults are read back', () => {
    const flags = defineFlags();
    setDefaults({ benchmark_log_dir: '/tmp/12345', gcp_project: 'project_abc' }, flags);
    parseFlags([], flags);
    assert.equal(flags.FLAGS.benchmark_log_dir, '/tmp/12345');
    assert.equal(flags.FLAGS.gcp_project, 'project_abc');
  });

  it('a bare boolean is true', () => {
    const flags = defineFlags();
    parseFlags([], flags);
    assert.equal(flags.FLAGS.use_synthetic_data, false);
    parseFlags(['--use_synthetic_data'], flags);
    assert.equal(flags.FLAGS.use_synthetic_data, true);
  });

  it('dtype and loss scale', () => {
    const flags = defineFlags();
    for (const [dtype, tf, scale] of [
      ['fp16', 'float16', 128],
      ['fp32', 'float32', 1],
      ['bf16', 'bfloat16', 1],
      ['bf16_emulated', 'bfloat16', 1],
    ] as const) {
      parseFlags(['--dtype', dtype], flags);
      assert.equal(getTfDtype(flags.FLAGS), tf);
      assert.equal(getLossScale(flags.FLAGS), scale);
      parseFlags(['--dtype', dtype, '--loss_scale', '5'], flags);
      assert.equal(getLossScale(flags.FLAGS), 5);
      parseFlags(['--dtype', dtype, '--loss_scale', 'dynamic'], flags);
      assert.equal(getLossScale(flags.FLAGS), 'dynamic');
    }
    assert.throws(() => parseFlags(['--dtype', 'int8'], flags), UsageError);
    const dynamic = /loss_scale should be a positive int\/float or the string 'dynamic'\./;
    for (const text of ['abc', '0', '-1', '', 'nan', 'inf', '0x10']) {
      assert.throws(() => parseFlags(['--dtype', 'fp16', `--loss_scale=${text}`], flags), dynamic, text);
    }
    const fixed = new FlagValues();
    definePerformance({}, fixed);
    const noDynamic = /loss_scale should be a positive int\/float\./;
    assert.throws(() => parseFlags(['--loss_scale=dynamic'], fixed), noDynamic);
    parseFlags(['--loss_scale=.5'], fixed);
    assert.equal(getLossScale(fixed.FLAGS), 0.5);
  });

  it('the file logger needs a folder, with the exact message', () => {
    const flags = defineFlags();
    assert.throws(
      () => parseFlags(['--benchmark_logger_type=BenchmarkFileLogger'], flags),
      /--benchmark_logger_type=BenchmarkFileLogger will require --benchmark_log_dir being set/,
    );
    parseFlags(['--benchmark_logger_type=BenchmarkFileLogger', '-bld', '/tmp/x'], flags);
  });
});

describe('switches', () => {
  const names = (flags: FlagValues) => flags.definitions().map(({ name }) => name);
  const keys = (flags: FlagValues) =>
    flags
      .definitions()
      .filter(({ key }) => key)
      .map(({ name }) => name);

  it('base: each keyword leaves out its flag', () => {
    const keywords = {
      data_dir: 'data_dir',
      model_dir: 'model_dir',
      clean: 'clean',
      train_epochs: 'train_epochs',
      epochs_between_evals: 'epochs_between_evals',
      stop_threshold: 'stop_threshold',
      batch_size: 'batch_size',
      num_gpu: 'num_gpus',
      hooks: 'hooks',
      export_dir: 'export_dir',
      distribution_strategy: 'distribution_strategy',
    };
    const all = new FlagValues();
    defineBase({}, all);
    assert.deepEqual(names(all), Object.values(keywords));
    const hidden = ['stop_threshold', 'num_gpus', 'distribution_strategy'];
    assert.deepEqual(
      keys(all),
      Object.values(keywords).filter((name) => !hidden.includes(name)),
    );
    for (const [keyword, name] of Object.entries(keywords)) {
      const flags = new FlagValues();
      defineBase({ [keyword]: false }, flags);
      assert.deepEqual(
        names(flags),
        Object.values(keywords).filter((other) => other !== name),
      );
    }
    const eager = new FlagValues();
    defineBaseEager({}, eager);
    assert.deepEqual(
      names(eager),
      Object.values(keywords).filter((n) => !['epochs_between_evals', 'stop_threshold', 'hooks'].includes(n)),
    );
  });

  it('performance: eight on, the rest off', () => {
    const standard = new FlagValues();
    definePerformance({}, standard);
    const first = ['num_parallel_calls', 'inter_op_parallelism_threads', 'intra_op_parallelism_threads'];
    const on = [
      ...first,
      'use_synthetic_data',
      'max_train_steps',
      'dtype',
      'loss_scale',
      'all_reduce_alg',
      'num_packs',
    ];
    assert.deepEqual(names(standard), on);
    assert.deepEqual(keys(standard), []);
    const more = new FlagValues();
    definePerformance(
      {
        tf_gpu_thread_mode: true,
        datasets_num_private_threads: true,
        datasets_num_parallel_batches: true,
        dtype: false,
        inter_op: false,
      },
      more,
    );
    const without = ['inter_op_parallelism_threads', 'dtype', 'loss_scale'];
    assert.deepEqual(names(more), [
      ...on.filter((name) => !without.includes(name)),
      'tf_gpu_thread_mode',
      'per_gpu_thread_count',
      'datasets_num_private_threads',
      'datasets_num_parallel_batches',
    ]);
  });

  it('benchmark and device', () => {
    const small = new FlagValues();
    defineBenchmark({ benchmark_log_dir: false, bigquery_uploader: false }, small);
    assert.deepEqual(names(small), ['benchmark_logger_type', 'benchmark_test_id', 'log_steps']);
    // Without the folder's flag there is nothing to require.
    small.parse(['--benchmark_logger_type=BenchmarkFileLogger']);
    const tpu = new FlagValues();
    defineDevice({}, tpu);
    assert.deepEqual(names(tpu), ['tpu', 'tpu_zone', 'tpu_gcp_project', 'num_tpu_shards']);
    assert.deepEqual(keys(tpu), ['tpu']);
  });

  it('require_cloud_storage', () => {
    const flags = new FlagValues();
    defineBase({}, flags);
    defineDevice({}, flags);
    const lines: string[] = [];
    requireCloudStorage(['data_dir', 'model_dir'], flags, (line) => lines.push(line));
    flags.parse(['--data_dir=/x']);
    flags.parse(['--tpu=t', '--data_dir=gs://x', '--model_dir=gs://y']);
    assert.deepEqual(lines, []);
    assert.throws(() => flags.parse(['--tpu=t', '--data_dir=gs://x']), /TPU requires GCS path for data_dir, model_dir/);
    assert.deepEqual(lines, ['model_dir must be a GCS path.']);
  });

  it('bad numbers are refused at the flag', () => {
    const flags = new FlagValues();
    defineBase({}, flags);
    definePerformance({}, flags);
    defineLockstep({}, flags);
    for (const argument of [
      '--batch_size=0',
      '--epochs_between_evals=0',
      '--train_epochs=-1',
      '--max_train_steps=0',
      '--intra_op_parallelism_threads=-1',
      '--num_cpus=-2',
      '--seed=-1',
      '--seed=4294967296',
      '--keep_checkpoint_max=0',
    ]) {
      assert.throws(() => flags.parse([argument]), UsageError, argument);
    }
    // Not checked by the flags: the strategy has its own exact messages for these.
    flags.parse(['--num_gpus=-7', '--num_packs=-1', '--all_reduce_alg=nonsense', '--distribution_strategy=odd']);
  });
});

describe('getters', () => {
  it('getNumGpus lists devices only for -1', () => {
    const never = () => assert.fail('listed');
    for (const n of [0, 1, 8, -2]) assert.equal(getNumGpus({ num_gpus: n }, never), n);
    const devices = () => [{ type: 'CPU' }, { type: 'GPU' }, { type: 'GPU' }];
    assert.equal(getNumGpus({ num_gpus: -1 }, devices), 2);
    assert.equal(
      getNumGpus({ num_gpus: -1 }, () => []),
      0,
    );
  });

  it('the default instance begins empty', () => {
    assert.deepEqual(defaultFlags.definitions(), []);
  });
});
