/**
 * oneDNN 3.x's C API (Debian 13's libdnnl3.6 and later releases): no operation descriptors, opaque memory descriptors, and
 * other numbers for element-wise algorithms and normalization flags. The constants of the rest of the backend are 2.6's;
 * they are translated here and nowhere else.
 */
import koffi from 'koffi';
import { Alg, DataType, type DataTypeName, NormalizationFlag, Prop, Query, STATUS } from './constants.js';
import {
  type ConvolutionShape,
  type Dnnl,
  type MemoryDescriptor,
  OneDnnError,
  type PoolingShape,
  type PostOp,
  type PrimitiveDescriptor,
} from './dnnl.js';
import type { LoadedLibrary } from './library.js';

const UNIMPLEMENTED = 3;
const MAX_DIMS = 12;
const TAG_ANY = 1;
/** nChw16c and its relatives (dnnl_format_tag_t of 3.6), by rank. */
const CHANNEL_BLOCK_TAG: Record<8 | 16, Record<number, number>> = { 16: { 4: 78, 5: 121 }, 8: { 4: 102, 5: 142 } };

/** Element-wise algorithms whose number changed with version 3 (dnnl_alg_kind_t). */
const ELTWISE: ReadonlyMap<number, number> = new Map([
  [Alg.relu, 32],
  [Alg.reluUseDst, 256],
  [Alg.tanh, 33],
  [Alg.elu, 34],
  [Alg.square, 35],
  [Alg.abs, 36],
  [Alg.sqrt, 37],
  [Alg.linear, 38],
  [Alg.logistic, 41],
  [Alg.exp, 42],
  [Alg.log, 45],
  [Alg.clip, 46],
  [Alg.round, 50],
]);

const SOFTMAX_ACCURATE = 0x30000;
const SOFTMAX_LOG = 0x30001;
const QUERY_NDIMS = 256;
const QUERY_DIMS = 257;
const QUERY_DATA_TYPE = 258;

type Native = (...args: (number | ArrayBufferView | null)[]) => number;

function eltwise(alg: number): number {
  return ELTWISE.get(alg) ?? alg;
}

/** dnnl_normalization_flags_t of version 3. */
function normalizationFlags(flags: number): number {
  const { useGlobalStats, useScale, useShift, fuseNormRelu } = NormalizationFlag;
  return (
    (flags & useGlobalStats ? 1 : 0) |
    (flags & useScale ? 2 : 0) |
    (flags & useShift ? 4 : 0) |
    (flags & fuseNormRelu ? 8 : 0)
  );
}

/** Binds oneDNN 3.x. `engine` and `stream` are made for the calling thread. */
export function bindV3(loaded: LoadedLibrary): Dnnl {
  const { library } = loaded;
  // `p` is a pointer to JavaScript memory that the call reads or fills; `h` a handle or address as a number.
  const bind = (name: string, signature: string, result = 'int'): Native => {
    const types = [...signature].map(
      (letter) => ({ p: 'void *', h: 'uintptr_t', i: 'int', f: 'float', u: 'uint32_t' })[letter],
    );
    return library.func(`${result} ${name}(${types.join(', ')})`) as unknown as Native;
  };
  const create = (operation: string, signature: string): Native =>
    bind(`dnnl_${operation}_primitive_desc_create`, `ph${signature}`);
  const check = (status: number, call: string): void => {
    if (status !== 0) throw new OneDnnError(`oneDNN: ${call} failed: ${STATUS[status] ?? `status ${status}`}.`);
  };
  const out = new BigUint64Array(1);
  const created = (): number => Number(out[0]);

  const engineCreate = bind('dnnl_engine_create', 'pih');
  const streamCreate = bind('dnnl_stream_create', 'phu');
  const descByStrides = bind('dnnl_memory_desc_create_with_strides', 'pipip');
  const descByTag = bind('dnnl_memory_desc_create_with_tag', 'pipii');
  const descClone = bind('dnnl_memory_desc_clone', 'ph');
  const descDestroy = bind('dnnl_memory_desc_destroy', 'h');
  const descEqual = bind('dnnl_memory_desc_equal', 'hh');
  const descSize = bind('dnnl_memory_desc_get_size', 'h', 'size_t');
  const descQuery = bind('dnnl_memory_desc_query', 'hip');
  const pdQuery = bind('dnnl_primitive_desc_query', 'hiip');
  const pdQueryMd = bind('dnnl_primitive_desc_query_md', 'hii', 'uintptr_t');
  const pdDestroy = bind('dnnl_primitive_desc_destroy', 'h');
  const attrCreate = bind('dnnl_primitive_attr_create', 'p');
  const attrDestroy = bind('dnnl_primitive_attr_destroy', 'h');
  const attrSetScratchpad = bind('dnnl_primitive_attr_set_scratchpad_mode', 'hi');
  const attrSetPostOps = bind('dnnl_primitive_attr_set_post_ops', 'hh');
  const postOpsCreate = bind('dnnl_post_ops_create', 'p');
  const postOpsDestroy = bind('dnnl_post_ops_destroy', 'h');
  const postOpsSum = bind('dnnl_post_ops_append_sum', 'hfii');
  const postOpsEltwise = bind('dnnl_post_ops_append_eltwise', 'hiff');
  const postOpsBinary = bind('dnnl_post_ops_append_binary', 'hih');
  const primitiveCreate = bind('dnnl_primitive_create', 'ph');
  const primitiveExecute = bind('dnnl_primitive_execute', 'hhih');
  const primitiveDestroy = bind('dnnl_primitive_destroy', 'h');
  const memoryCreate = bind('dnnl_memory_create', 'phhh');
  const memorySet = bind('dnnl_memory_set_data_handle', 'hh');
  const memoryDestroy = bind('dnnl_memory_destroy', 'h');
  const convForward = create('convolution_forward', 'iihhhhpppph');
  const convBackwardData = create('convolution_backward_data', 'ihhhpppphh');
  const convBackwardWeights = create('convolution_backward_weights', 'ihhhhpppphh');
  const bnForward = create('batch_normalization_forward', 'ihhfuh');
  const bnBackward = create('batch_normalization_backward', 'ihhhfuhh');
  const lnForward = create('layer_normalization_forward', 'ihhhfuh');
  const lnBackward = create('layer_normalization_backward', 'ihhhhfuhh');
  const eltForward = create('eltwise_forward', 'iihhffh');
  const eltBackward = create('eltwise_backward', 'ihhhffhh');
  const poolForward = create('pooling_forward', 'iihhppppph');
  const poolBackward = create('pooling_backward', 'ihhppppphh');
  const binaryCreate = create('binary', 'ihhhh');
  const matmulCreate = create('matmul', 'hhhhh');
  const reductionCreate = create('reduction', 'ihhffh');
  const softmaxCreate = create('softmax_forward', 'iihhih');
  const reorderCreate = bind('dnnl_reorder_primitive_desc_create', 'phhhhh');

  check(engineCreate(out, 1, 0), 'dnnl_engine_create');
  const engine = created();
  check(streamCreate(out, engine, 1), 'dnnl_stream_create');
  const stream = created();

  const typeNames = new Map<number, DataTypeName>(
    Object.entries(DataType).map(([name, value]) => [value, name as DataTypeName]),
  );
  const interned = new Map<string, MemoryDescriptor[]>();
  let descriptors = 0;

  /** The known descriptor that equals this handle, or a new one that owns it. */
  const intern = (handle: number, isAny: boolean): MemoryDescriptor => {
    const number = new Int32Array(1);
    check(descQuery(handle, QUERY_NDIMS, number), 'dnnl_memory_desc_query(ndims)');
    const rank = number[0] as number;
    check(descQuery(handle, QUERY_DATA_TYPE, number), 'dnnl_memory_desc_query(data_type)');
    const dataType = typeNames.get(number[0] as number) ?? 'f32';
    const pointer = new BigUint64Array(1);
    check(descQuery(handle, QUERY_DIMS, pointer), 'dnnl_memory_desc_query(dims)');
    const dims = Array.from(koffi.decode(Number(pointer[0]), 'int64_t', rank) as ArrayLike<number | bigint>, Number);
    const key = `${dims} ${dataType} ${isAny}`;
    const bucket = interned.get(key) ?? [];
    if (bucket.length === 0) interned.set(key, bucket);
    const known = bucket.find((other) => descEqual(other.native as number, handle) !== 0);
    if (known) {
      descDestroy(handle);
      return known;
    }
    const byteLength = isAny ? 0 : Number(descSize(handle));
    const descriptor = { id: descriptors++, dims, dataType, byteLength, isAny, native: handle };
    bucket.push(descriptor);
    return descriptor;
  };

  const dimsOf = (values: readonly number[]): BigInt64Array => {
    const dims = new BigInt64Array(MAX_DIMS);
    values.forEach((value, axis) => {
      dims[axis] = BigInt(value);
    });
    return dims;
  };
  const raw = (descriptor: MemoryDescriptor | null): number => (descriptor ? (descriptor.native as number) : 0);

  // Scratchpads belong to the caller, so that memory is pooled and the library never allocates inside a step.
  const makeAttr = (postOps: readonly PostOp[]): number => {
    check(attrCreate(out), 'dnnl_primitive_attr_create');
    const attr = created();
    check(attrSetScratchpad(attr, 1), 'dnnl_primitive_attr_set_scratchpad_mode');
    if (postOps.length === 0) return attr;
    check(postOpsCreate(out), 'dnnl_post_ops_create');
    const ops = created();
    for (const op of postOps) {
      if (op.kind === 'sum') check(postOpsSum(ops, op.scale, 0, 0), 'dnnl_post_ops_append_sum');
      else if (op.kind === 'eltwise') {
        check(postOpsEltwise(ops, eltwise(op.alg), op.alpha, op.beta), 'dnnl_post_ops_append_eltwise');
      } else check(postOpsBinary(ops, op.alg, raw(op.src1)), 'dnnl_post_ops_append_binary');
    }
    check(attrSetPostOps(attr, ops), 'dnnl_primitive_attr_set_post_ops');
    postOpsDestroy(ops);
    return attr;
  };
  const plainAttr = makeAttr([]);

  const wrap = (handle: number): PrimitiveDescriptor => {
    const name = new BigUint64Array(1);
    const status = pdQuery(handle, Query.implementation, 0, name);
    return {
      handle,
      implementation: status === 0 ? (koffi.decode(Number(name[0]), 'char', -1) as string) : 'unknown',
      query(what, index = 0) {
        const address = pdQueryMd(handle, what, index);
        if (!address) return null;
        const rank = new Int32Array(1);
        check(descQuery(address, QUERY_NDIMS, rank), 'dnnl_memory_desc_query(ndims)');
        if (rank[0] === 0) return null;
        // The queried descriptor belongs to the primitive descriptor, which will be destroyed.
        check(descClone(out, address), 'dnnl_memory_desc_clone');
        return intern(created(), false);
      },
      destroy() {
        pdDestroy(handle);
      },
    };
  };

  /** Calls a creation function with the attributes and wraps what it made; null where oneDNN says `unimplemented`. */
  const finish = (
    call: string,
    make: (attr: number) => number,
    postOps: readonly PostOp[] = [],
  ): PrimitiveDescriptor | null => {
    const attr = postOps.length > 0 ? makeAttr(postOps) : plainAttr;
    const status = make(attr);
    if (attr !== plainAttr) attrDestroy(attr);
    if (status === UNIMPLEMENTED) return null;
    check(status, `dnnl_${call}_primitive_desc_create`);
    return wrap(created());
  };

  const shapeOf = ({ strides, dilates, padBegin, padEnd }: ConvolutionShape) =>
    [dimsOf(strides), dimsOf(dilates), dimsOf(padBegin), dimsOf(padEnd)] as const;
  const poolOf = ({ strides, kernel, dilates, padBegin, padEnd }: PoolingShape) =>
    [dimsOf(strides), dimsOf(kernel), dimsOf(dilates), dimsOf(padBegin), dimsOf(padEnd)] as const;

  return {
    version: loaded.version,
    path: loaded.path,
    engine,
    stream,
    batchNormBackwardTakesShift: false,
    descriptor(dims, dataType, format) {
      const type = DataType[dataType];
      if (format === 'any') check(descByTag(out, dims.length, dimsOf(dims), type, TAG_ANY), 'dnnl_memory_desc_create');
      else if ('strides' in format) {
        check(
          descByStrides(out, dims.length, dimsOf(dims), type, dimsOf(format.strides)),
          `dnnl_memory_desc_create_with_strides([${dims}], strides [${format.strides}])`,
        );
      } else {
        const tag = CHANNEL_BLOCK_TAG[format.channelBlock][dims.length];
        if (!tag)
          throw new OneDnnError(`oneDNN: no ${format.channelBlock}-channel block layout for rank ${dims.length}.`);
        check(descByTag(out, dims.length, dimsOf(dims), type, tag), 'dnnl_memory_desc_create_with_tag');
      }
      return intern(created(), format === 'any');
    },
    convolutionForward(prop, alg, src, weights, bias, dst, shape, postOps) {
      const layouts = [raw(src), raw(weights), raw(bias), raw(dst)] as const;
      return finish(
        'convolution_forward',
        (attr) => convForward(out, engine, prop, alg, ...layouts, ...shapeOf(shape), attr),
        postOps,
      );
    },
    convolutionBackwardData(alg, diffSrc, weights, diffDst, shape, hint) {
      const layouts = [raw(diffSrc), raw(weights), raw(diffDst)] as const;
      return finish('convolution_backward_data', (attr) =>
        convBackwardData(out, engine, alg, ...layouts, ...shapeOf(shape), hint.handle, attr),
      );
    },
    convolutionBackwardWeights(alg, src, diffWeights, diffBias, diffDst, shape, hint) {
      const layouts = [raw(src), raw(diffWeights), raw(diffBias), raw(diffDst)] as const;
      return finish('convolution_backward_weights', (attr) =>
        convBackwardWeights(out, engine, alg, ...layouts, ...shapeOf(shape), hint.handle, attr),
      );
    },
    batchNormForward(prop, src, epsilon, flags) {
      return finish('batch_normalization_forward', (attr) =>
        bnForward(out, engine, prop, raw(src), raw(src), epsilon, normalizationFlags(flags), attr),
      );
    },
    batchNormBackward(diffData, data, epsilon, flags, hint) {
      const layouts = [raw(diffData), raw(diffData), raw(data)] as const;
      return finish('batch_normalization_backward', (attr) =>
        bnBackward(out, engine, 128, ...layouts, epsilon, normalizationFlags(flags), hint.handle, attr),
      );
    },
    layerNormForward(prop, src, statistics, epsilon, flags) {
      const layouts = [raw(src), raw(src), raw(statistics)] as const;
      return finish('layer_normalization_forward', (attr) =>
        lnForward(out, engine, prop, ...layouts, epsilon, normalizationFlags(flags), attr),
      );
    },
    layerNormBackward(src, statistics, epsilon, flags, hint) {
      const layouts = [raw(src), raw(src), raw(src), raw(statistics)] as const;
      return finish('layer_normalization_backward', (attr) =>
        lnBackward(out, engine, 128, ...layouts, epsilon, normalizationFlags(flags), hint.handle, attr),
      );
    },
    eltwiseForward(prop, alg, src, alpha, beta) {
      return finish('eltwise_forward', (attr) =>
        eltForward(out, engine, prop, eltwise(alg), raw(src), raw(src), alpha, beta, attr),
      );
    },
    eltwiseBackward(alg, diffData, data, alpha, beta, hint) {
      const layouts = [raw(diffData), raw(diffData), raw(data)] as const;
      return finish('eltwise_backward', (attr) =>
        eltBackward(out, engine, eltwise(alg), ...layouts, alpha, beta, hint.handle, attr),
      );
    },
    poolingForward(prop, alg, src, dst, shape) {
      return finish('pooling_forward', (attr) =>
        poolForward(out, engine, prop, alg, raw(src), raw(dst), ...poolOf(shape), attr),
      );
    },
    poolingBackward(alg, diffSrc, diffDst, shape, hint) {
      return finish('pooling_backward', (attr) =>
        poolBackward(out, engine, alg, raw(diffSrc), raw(diffDst), ...poolOf(shape), hint.handle, attr),
      );
    },
    binary(alg, src0, src1, dst, postOps) {
      return finish('binary', (attr) => binaryCreate(out, engine, alg, raw(src0), raw(src1), raw(dst), attr), postOps);
    },
    matmul(src, weights, bias, dst, postOps) {
      const layouts = [raw(src), raw(weights), raw(bias), raw(dst)] as const;
      return finish('matmul', (attr) => matmulCreate(out, engine, ...layouts, attr), postOps);
    },
    reduction(alg, src, dst) {
      return finish('reduction', (attr) => reductionCreate(out, engine, alg, raw(src), raw(dst), 0, 0, attr));
    },
    softmaxForward(src, axis, isLog) {
      const alg = isLog ? SOFTMAX_LOG : SOFTMAX_ACCURATE;
      return finish('softmax_forward', (attr) =>
        softmaxCreate(out, engine, Prop.forwardInference, alg, raw(src), raw(src), axis, attr),
      );
    },
    reorder(src, dst) {
      return finish('reorder', (attr) => reorderCreate(out, raw(src), engine, raw(dst), engine, attr));
    },
    createPrimitive(descriptor) {
      check(primitiveCreate(out, descriptor.handle), `dnnl_primitive_create(${descriptor.implementation})`);
      return created();
    },
    createMemory(descriptor) {
      // A null handle means "no buffer yet"; setData gives it one before every execution.
      check(memoryCreate(out, raw(descriptor), engine, 0), `dnnl_memory_create([${descriptor.dims}])`);
      return created();
    },
    setData(memory, address) {
      const status = memorySet(memory, address);
      if (status !== 0) check(status, 'dnnl_memory_set_data_handle');
    },
    execute(primitive, count, argumentsAddress) {
      const status = primitiveExecute(primitive, stream, count, argumentsAddress);
      if (status !== 0) check(status, 'dnnl_primitive_execute');
    },
    destroyPrimitive(primitive) {
      primitiveDestroy(primitive);
    },
    destroyMemory(memory) {
      memoryDestroy(memory);
    },
  };
}
