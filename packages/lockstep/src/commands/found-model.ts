/**
 * What `lockstep start` finds in its model folder, before anything is trained: nothing, a run to go on with, or one that is over. A
 * command that does not fit what is there ends here, with what to type; nothing is deleted that nobody asked to delete.
 */
import { runCheckpoints, stateOf } from '@lockstep/official/resnet/replica/run-state';
import { type FlagValues, UsageError } from '@lockstep/official/utils/flags/core';

/** A run that is there, and whether this command leaves nothing to train. */
export interface FoundModel {
  readonly isOver: boolean;
  /** A sentence or two for the person who typed the command. */
  readonly line: string;
}

/**
 * @param flags parsed, with start's defaults
 * @throws UsageError for a network of another size or version than the one that is there.
 */
export function findModel(flags: FlagValues): FoundModel | null {
  const { FLAGS } = flags;
  const { model_dir: modelDir, train_epochs: epochs, max_train_steps: maxSteps } = FLAGS;
  // --noresume is refused by the run itself, with what to do.
  if (FLAGS.clean || FLAGS.eval_only || !FLAGS.resume) return null;
  const newest = runCheckpoints(modelDir, { warn: () => {} }).latest();
  if (newest === null) return null;
  const { model, position } = stateOf(newest.metadata);
  const size = Number(FLAGS.resnet_size);
  const version = Number(FLAGS.resnet_version);
  if (model.size !== size || model.version !== version) {
    const name = model.size === size ? 'resnet_version' : 'resnet_size';
    throw new UsageError(
      `flag --${name}=${FLAGS[name]}: ${modelDir} holds a ResNet-${model.size} v${model.version}, and this command trains a ResNet-${size} v${version}`,
      {
        flag: name,
        value: String(FLAGS[name]),
        remedy: `Choose another --model_dir, such as --model_dir=${modelDir}-${size}-v${version}, or add --clean to train anew in place of what is there.`,
      },
    );
  }
  const { globalStep } = position;
  if (position.epochs >= epochs) {
    const done = `${position.epochs} epoch${position.epochs === 1 ? '' : 's'}`;
    return {
      isOver: true,
      line: `${modelDir} is trained for ${done} already, so it is evaluated only. --train_epochs=${2 * position.epochs} trains on, --clean trains anew.`,
    };
  }
  if (maxSteps !== null && globalStep >= maxSteps) {
    return {
      isOver: true,
      line: `${modelDir} is at step ${globalStep} already, so it is evaluated only. A larger --max_train_steps trains on, --clean trains anew.`,
    };
  }
  return {
    isOver: false,
    line: `Going on with what is in ${modelDir}, from step ${globalStep} on. --clean trains anew.`,
  };
}
