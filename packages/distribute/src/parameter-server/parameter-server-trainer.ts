/**
 * A worker's training step with parameter servers: pull the weights, compute, push the gradients, and do not wait for anybody
 * else. Replicas of one worker stay in step: they read one copy of the weights, and their gradients are summed first.
 *
 * Weights and slots here are what was pulled last; the truth is with the servers ({@link ParameterServerTrainer.pullState}).
 */

import type * as tf from '@tensorflow/tfjs-core';
import type { Communicator } from '../communicator/communicator.js';
import { gatherValues } from '../communicator/gather.js';
import { checkSameVariables } from '../mirror/mirror.js';
import type { MpiCommunicator } from '../mpi/mpi-communicator.js';
import { checkStep, checkTrainer } from '../optimizer/check-trainer.js';
import { checkViews, fillWeights, layOut, viewWeights } from '../optimizer/flat-variables.js';
import { LocalStepRunner, type Loss, type StepInput } from '../optimizer/local-step.js';
import type { LossScaleState } from '../optimizer/loss-scale.js';
import { REPORT, StepReports } from '../optimizer/step-reports.js';
import type { StepResult, TrainerOptions, TrainerSegment } from '../optimizer/trainer.js';
import { copyValues, observe } from '../replica/tensor-values.js';
import type { FlatMemory } from '../simd/index.js';
import { flatOptimizer } from '../trainer/optimizers/create.js';
import { ServerLinks, type ServerStatus } from './server-links.js';

/** What a trainer needs of its replica. */
export interface ParameterServerTrainerContext {
  /** The replicas of this worker. */
  readonly local: Communicator;
  /** All processes of the job; the worker's local rank 0 uses it. */
  readonly processes: MpiCommunicator;
  readonly memory: FlatMemory;
  /** Ranks of the servers. */
  readonly servers: readonly number[];
  readonly isStopRequested: () => boolean;
  readonly onStopKnown: (stop: boolean) => void;
}

/** What the leader tells its replicas after a pull: whether the chief has asked to stop, whether gradients were finite. */
const NEWS = 2;

/** See the file's head. */
export class ParameterServerTrainer {
  /** All weights, as pulled last. To change them write here on the chief, then {@link pushState}. */
  readonly weights: Float32Array;
  readonly slots: Record<string, Float32Array> = {};
  readonly segments: readonly TrainerSegment[];
  readonly #variables: readonly tf.Variable[];
  readonly #segmentOf: ReadonlyMap<tf.Variable, number>;
  readonly #gradients: readonly Float32Array[];
  readonly #decays: readonly number[];
  readonly #aliases: readonly object[];
  readonly #lossScale: number;
  readonly #local: LocalStepRunner;
  readonly #produced: Uint8Array;
  readonly #stepReports: StepReports;
  readonly #reports: Float64Array;
  /** Only of the leader. */
  readonly #links: ServerLinks | null;
  #isWritten = false;
  #steps = 0;

  constructor(
    variables: readonly tf.Variable[],
    private readonly options: TrainerOptions,
    private readonly context: ParameterServerTrainerContext,
  ) {
    checkTrainer(variables, options);
    const { local, memory, processes, servers } = context;
    checkSameVariables(variables, {
      communicator: local,
      replicas: local.size,
      gather: (value) => gatherValues(local, value),
    });
    this.#variables = [...variables];
    this.#segmentOf = new Map(variables.map((variable, i) => [variable, i]));
    this.segments = layOut(variables);
    const elements = this.segments.reduce((total, { length }) => total + length, 0);
    const { weightDecay, optimizer, lossScale = 1 } = options;
    if (typeof lossScale !== 'number') {
      throw new Error(
        'With parameter servers the loss scale cannot be dynamic: workers are not in step, so there is no step to skip.\n' +
          'help: give a number, or use another strategy.',
      );
    }
    this.#lossScale = lossScale;
    this.#local = new LocalStepRunner(variables, (variable, gradient) => this.#take(variable, gradient));
    this.#decays = variables.map((variable) => (weightDecay?.applies(variable) ? weightDecay.rate : 0));
    // Every thread of the process makes the same allocations in the same order: see FlatMemory.
    this.weights = memory.allocate(elements);
    for (const name of flatOptimizer(optimizer).slots) this.slots[name] = memory.allocate(elements);
    this.#gradients = memory.allocateEach(local.size, elements);
    this.#reports = new Float64Array(REPORT * local.size);
    this.#produced = new Uint8Array(variables.length);
    this.#stepReports = new StepReports({
      segments: this.segments,
      gather: (value) => gatherValues(local, value),
    });
    this.#links = local.rank === 0 ? new ServerLinks(processes, servers, this.segments) : null;
    if (this.#isChief) {
      this.#links?.specify({ optimizer, gradientScale: 1 / (local.size * lossScale) }, this.#decays);
    }
    this.#aliases = this.#adopt();
  }

  get #isChief(): boolean {
    return this.context.processes.rank === 0 && this.context.local.rank === 0;
  }

  /**
   * One step of this worker: newest weights, `loss` and its gradients on all of its replicas, their sum to the servers.
   * @returns losses are means over this worker's replicas.
   * @throws CommunicatorError when a server, or the chief, is lost.
   */
  step(loss: Loss, learningRate: number, inputs?: readonly StepInput[]): StepResult {
    checkStep(loss, learningRate, inputs);
    this.#checkAliases();
    this.#steps++;
    const { local, processes } = this.context;
    if (local.rank === 0) processes.setStep(this.#steps);
    const began = performance.now();
    const { stop: isStopped, finite } = this.#pull();
    this.#produced.fill(0);
    const { loss: localLoss, begin, forwardDone } = this.#local.run(loss, this.#lossScale, inputs);
    for (const [index, has] of this.#produced.entries()) if (has === 0) this.#gradientOf(index).fill(0);
    const backwardDone = performance.now();
    const own = { loss: localLoss, produced: this.#produced, learningRate, lossScale: this.#lossScale, inputs };
    const asked = isStopped || this.context.isStopRequested();
    local.allGather(this.#stepReports.write({ ...own, stop: asked }), this.#reports);
    // Before anything is pushed. Workers are not in step, so only the worker's own replicas are compared.
    const { lossSum, stop } = this.#stepReports.read(this.#reports);
    const mean = lossSum / local.size;
    this.context.onStopKnown(stop);
    // A step without a finite loss changes nothing.
    if (this.#links && Number.isFinite(mean)) {
      const [sum] = this.#gradients as [Float32Array];
      if (this.#gradients.length > 1) this.context.memory.kernels.sum(sum, this.#gradients);
      this.#links.push(sum, learningRate);
    }
    const end = performance.now();
    return {
      loss: mean,
      localLoss,
      finite: finite && Number.isFinite(mean),
      skipped: false,
      lossScale: this.#lossScale,
      phases: {
        forward: forwardDone - begin,
        backward: backwardDone - forwardDone,
        reduce: begin - began + (end - backwardDone),
        update: 0,
      },
    };
  }

  /** Here the loss scale is fixed and has no state: always null. */
  get lossScaleState(): LossScaleState | null {
    return null;
  }

  /** Without effect: here the loss scale is fixed. */
  restoreLossScale(_state: LossScaleState): void {}

  /** Without effect: here is one copy of the weights. */
  checkMirrored(): void {}

  /** rate · Σw²/2 over the variables that decay, of the weights that were pulled last. */
  weightDecayLoss(): number {
    const { kernels } = this.context.memory;
    let sum = 0;
    for (const [i, { offset, length }] of this.segments.entries()) {
      if (this.#decays[i] !== 0) sum += kernels.sumSquares(this.weights.subarray(offset, offset + length));
    }
    return ((this.options.weightDecay?.rate ?? 0) * sum) / 2;
  }

  /** Chief: weights and slots become what the servers hold. Others: nothing. Collective within the worker. */
  pullState(): void {
    if (this.context.processes.rank !== 0) return;
    if (this.#isWritten) this.#links?.read([this.weights, ...Object.values(this.slots)]);
    this.context.local.barrier();
  }

  /** Chief: the servers hold what weights and slots are here. Others: nothing. Collective within the worker. */
  pushState(): void {
    if (this.context.processes.rank !== 0) return;
    this.context.local.barrier();
    this.#links?.write([this.weights, ...Object.values(this.slots)]);
    this.#isWritten = true;
    this.context.local.barrier();
  }

  /**
   * Chief: waits until the other workers have ended, or are lost. Others: nothing. Collective within the worker.
   * @param stop Asks them to stop at their next step.
   * @returns what the servers counted; null on other workers and replicas.
   */
  waitForOthers(stop: boolean): ServerStatus | null {
    if (this.context.processes.rank !== 0) return null;
    const status = this.#links?.waitForOthers(stop) ?? null;
    this.context.local.barrier();
    return status;
  }

  /** After the last step: the chief ends the job, the others wait until it does. Collective within the worker. */
  finish(): void {
    if (this.#isChief) this.#links?.end();
    else this.#links?.done();
    this.context.local.barrier();
  }

  #pull(): { stop: boolean; finite: boolean } {
    if (this.context.processes.rank === 0 && !this.#isWritten) this.pushState();
    const news = new Float64Array(NEWS);
    if (this.#links) {
      const { stop, finite } = this.#links.pull(this.weights);
      news.set([stop ? 1 : 0, finite ? 1 : 0]);
    }
    this.context.local.broadcast(news, 0);
    return { stop: news[0] === 1, finite: news[1] === 1 };
  }

  #take(variable: tf.Variable, gradient: tf.Tensor): void {
    const index = this.#segmentOf.get(variable) as number;
    copyValues(gradient, this.#gradientOf(index));
    observe([], () => {
      this.#produced[index] = 1;
    });
  }

  #gradientOf(index: number): Float32Array {
    const { offset, length } = this.segments[index] as TrainerSegment;
    return (this.#gradients[this.context.local.rank] as Float32Array).subarray(offset, offset + length);
  }

  /** Replica 0's values become this worker's, and every variable a view of the flat weights. */
  #adopt(): object[] {
    const { local } = this.context;
    if (local.rank === 0) {
      fillWeights(this.#variables, this.segments, this.weights);
    }
    local.barrier();
    return viewWeights(this.#variables, this.segments, this.weights);
  }

  #checkAliases(): void {
    checkViews(
      this.#variables,
      this.#aliases,
      'write new values to trainer.weights on the chief and call pushState(); or assign before making the trainer.',
    );
  }
}
