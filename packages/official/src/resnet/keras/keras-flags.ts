/**
 * The flags of the Keras mains: upstream's own (`define_keras_flags` of keras_common.py) beside those of the ResNets that mean something
 * here, and what is said of those that upstream has and that have nothing to do where TensorFlow.js computes.
 */
import {
  defineBase,
  defineBenchmark,
  defineLockstep,
  definePerformance,
  type FlagValues,
  UsageError,
  whyNoProfile,
} from '../../utils/flags/core.js';

declare module '../../utils/flags/flag-values.js' {
  interface FlagTypes {
    enable_eager: boolean;
    skip_eval: boolean;
    use_trivial_model: boolean;
    enable_xla: boolean;
    enable_tensorboard: boolean;
    data_prefetch_with_slack: boolean;
    train_steps: number | null;
    profile_steps: string | null;
  }
}

const group = 'Keras';

export function defineKerasFlags(flags: FlagValues): FlagValues {
  defineBase({ clean: false, stop_threshold: false, hooks: false }, flags);
  definePerformance({ num_parallel_calls: false, inter_op: false, max_train_steps: false }, flags);
  defineBenchmark({ bigquery_uploader: false }, flags);
  defineLockstep({ gradient_dtype: false, workers: false, checkpoints: false, export: false }, flags);
  const bool = (name: string, help: string) => flags.DEFINE_bool({ name, default: false, group, key: true, help });
  bool(
    'enable_eager',
    'Upstream: run eagerly. TensorFlow.js does; the backend records and replays the step all the same, so the flag changes nothing.',
  );
  bool('skip_eval', 'Train, and evaluate nothing.');
  bool('use_trivial_model', 'Train one dense layer in place of the network: what a step takes then is the input’s.');
  bool(
    'enable_xla',
    'Upstream: compile with XLA. There is no XLA here; the backend records and replays the step anyway, so the flag changes nothing.',
  );
  bool(
    'enable_tensorboard',
    'Write the figures of each epoch into model_dir, as event files for TensorBoard and `lockstep board`.',
  );
  bool(
    'data_prefetch_with_slack',
    'Upstream: delay prefetching a little. The input pipeline here has threads of its own, so the flag changes nothing.',
  );
  flags.DEFINE_integer({
    name: 'train_steps',
    default: null,
    lowerBound: 1,
    group,
    key: true,
    help: 'Train one epoch of at most so many steps.',
  });
  flags.DEFINE_string({
    name: 'profile_steps',
    default: null,
    group,
    key: true,
    help: 'Traces the steps from the first to the last of a pair, such as 20,22, on every replica, into timeline-20-22.json in model_dir, which ui.perfetto.dev and the board show.',
  });
  return flags;
}

/**
 * @returns a sentence for each flag without effect
 * @throws UsageError for what there is not; upstream's text where profile_steps is no pair
 */
export function checkKerasFlags(flags: FlagValues): string[] {
  const { profile_steps: profile, dtype, loss_scale: lossScale, enable_tensorboard: hasBoard } = flags.FLAGS;
  const refuse = (name: string, value: unknown, why: string, remedy: string): never => {
    throw new UsageError(`flag --${name}=${value}: ${why}`, { flag: name, value: String(value), remedy });
  };
  // Upstream's ValueError, where the other mains have a flag error.
  const problem = whyNoProfile(profile);
  if (problem !== null) throw new Error(problem);
  if (dtype === 'fp16') refuse('dtype', 'fp16', 'no device here computes in fp16', 'Use --dtype=bf16, or fp32.');
  if (lossScale !== null && Number(lossScale) !== 1) {
    refuse(
      'loss_scale',
      lossScale,
      'model.fit here scales no loss',
      'Leave it out; bf16 has the range of fp32 and needs none.',
    );
  }
  const remarks =
    flags.isGiven('model_dir') && !hasBoard && profile === null
      ? ['--model_dir has no effect without --enable_tensorboard or --profile_steps: a Keras run keeps no checkpoints.']
      : [];
  const without = (['enable_eager', 'enable_xla', 'data_prefetch_with_slack'] as const)
    .filter((name) => flags.FLAGS[name])
    .map((name) => `--${name} has no effect here.`);
  return [...without, ...remarks];
}
