/**
 * oneDNN's C enumerations, as far as Lockstep uses them (oneapi/dnnl/dnnl_types.h). The values are the same in 2.6 and
 * 3.x unless a name ends in V2 or V3.
 */

export const DataType = { f16: 1, bf16: 2, f32: 3, s32: 4, u8: 6 } as const;
export type DataTypeName = keyof typeof DataType;
export const BYTES: Record<DataTypeName, number> = { f16: 2, bf16: 2, f32: 4, s32: 4, u8: 1 };

export const Prop = {
  forwardTraining: 64,
  forwardInference: 96,
  backward: 128,
  backwardData: 160,
  backwardWeights: 192,
};

export const Alg = {
  convolutionDirect: 1,
  convolutionWinograd: 2,
  relu: 0x1f,
  reluUseDst: 0x100,
  tanh: 0x2f,
  elu: 0x3f,
  square: 0x4f,
  abs: 0x5f,
  sqrt: 0x6f,
  linear: 0x7f,
  logistic: 0xaf,
  exp: 0xbf,
  log: 0xef,
  clip: 0xff,
  round: 0x40,
  poolingMax: 0x1ff,
  poolingAvgIncludePadding: 0x2ff,
  poolingAvgExcludePadding: 0x3ff,
  add: 0x1fff0,
  mul: 0x1fff1,
  max: 0x1fff2,
  min: 0x1fff3,
  div: 0x1fff4,
  sub: 0x1fff5,
  reductionMax: 0x2fff2,
  reductionMin: 0x2fff3,
  reductionSum: 0x2fff4,
  reductionMean: 0x2fff6,
} as const;

export const NormalizationFlag = { useGlobalStats: 1, fuseNormRelu: 4, useScale: 8, useShift: 16 } as const;

/** Argument indices of dnnl_primitive_execute. */
export const Arg = {
  src: 1,
  src1: 2,
  dst: 17,
  weights: 33,
  bias: 41,
  mean: 49,
  variance: 50,
  scale: 51,
  shift: 52,
  workspace: 64,
  scratchpad: 80,
  diffSrc: 129,
  diffDst: 145,
  diffWeights: 161,
  diffBias: 169,
  diffScale: 255,
  diffShift: 256,
  multipleSrc: 1024,
} as const;

export const Query = {
  implementation: 8,
  src: 129,
  diffSrc: 130,
  weights: 131,
  diffWeights: 132,
  dst: 133,
  diffDst: 134,
  workspace: 135,
  scratchpad: 136,
} as const;

/** What oneDNN's status codes mean (dnnl_status_t). */
export const STATUS = [
  'success',
  'out of memory',
  'invalid arguments',
  'unimplemented',
  'last implementation reached',
  'runtime error',
  'not required',
];
