/**
 * oneDNN 2.6's C API (Debian 12's libdnnl2): operation descriptors are structs that `*_desc_init` fills, memory
 * descriptors are 696-byte structs passed by address. Sizes below were read with sizeof from 2.6's headers; 2.7 kept them.
 */
import koffi from 'koffi';
import { BYTES, DataType, type DataTypeName, Prop, Query, STATUS } from './constants.js';
import {
  type ConvolutionShape,
  type Dnnl,
  type Format,
  type MemoryDescriptor,
  OneDnnError,
  type PoolingShape,
  type PostOp,
  type PrimitiveDescriptor,
} from './dnnl.js';
import type { LoadedLibrary } from './library.js';

const DESCRIPTOR_BYTES = 696;
/** The largest operation descriptor we use (convolution: 5,976 bytes; RNN would need 15,344). */
const OPERATION_BYTES = 6144;
const UNIMPLEMENTED = 3;
const MAX_DIMS = 12;
const TAG_ANY = 1;
/** nCw16c and its relatives (dnnl_format_tag_t), by rank. */
const CHANNEL_BLOCK_TAG: Record<8 | 16, Record<number, number>> = { 16: { 4: 69, 5: 112 }, 8: { 4: 93, 5: 133 } };

type Native = (...args: (number | ArrayBufferView | null)[]) => number;

/** Binds oneDNN 2.6 or 2.7. `engine` and `stream` are made for the calling thread. */
export function bindV2(loaded: LoadedLibrary): Dnnl {
  const { library } = loaded;
  // `p` is a pointer to JavaScript memory that the call reads or fills; `h` a handle or address as a number.
  const bind = (name: string, signature: string): Native => {
    const types = [...signature].map(
      (letter) => ({ p: 'void *', h: 'uintptr_t', i: 'int', f: 'float', u: 'uint32_t' })[letter],
    );
    return library.func(`int ${name}(${types.join(', ')})`) as unknown as Native;
  };
  const check = (status: number, call: string, detail = ''): void => {
    if (status !== 0)
      throw new OneDnnError(`oneDNN: ${call} failed: ${STATUS[status] ?? `status ${status}`}.${detail}`);
  };
  const out = new BigUint64Array(1);
  const created = (): number => Number(out[0]);

  const engineCreate = bind('dnnl_engine_create', 'pih');
  const streamCreate = bind('dnnl_stream_create', 'phu');
  const descInitByStrides = bind('dnnl_memory_desc_init_by_strides', 'pipip');
  const descInitByTag = bind('dnnl_memory_desc_init_by_tag', 'pipii');
  const descGetSize = library.func('size_t dnnl_memory_desc_get_size(void *)') as unknown as Native;
  const pdCreate = bind('dnnl_primitive_desc_create', 'pphhh');
  const pdQuery = bind('dnnl_primitive_desc_query', 'hiip');
  const pdQueryMd = library.func('uintptr_t dnnl_primitive_desc_query_md(uintptr_t, int, int)') as unknown as Native;
  const pdDestroy = bind('dnnl_primitive_desc_destroy', 'h');
  const attrCreate = bind('dnnl_primitive_attr_create', 'p');
  const attrDestroy = bind('dnnl_primitive_attr_destroy', 'h');
  const attrSetScratchpad = bind('dnnl_primitive_attr_set_scratchpad_mode', 'hi');
  const attrSetPostOps = bind('dnnl_primitive_attr_set_post_ops', 'hh');
  const postOpsCreate = bind('dnnl_post_ops_create', 'p');
  const postOpsDestroy = bind('dnnl_post_ops_destroy', 'h');
  const postOpsSum = bind('dnnl_post_ops_append_sum', 'hf');
  const postOpsEltwise = bind('dnnl_post_ops_append_eltwise', 'hfiff');
  const postOpsBinary = bind('dnnl_post_ops_append_binary', 'hip');
  const primitiveCreate = bind('dnnl_primitive_create', 'ph');
  const primitiveExecute = bind('dnnl_primitive_execute', 'hhih');
  const primitiveDestroy = bind('dnnl_primitive_destroy', 'h');
  const memoryCreate = bind('dnnl_memory_create', 'pphh');
  const memorySet = bind('dnnl_memory_set_data_handle', 'hh');
  const memoryDestroy = bind('dnnl_memory_destroy', 'h');
  const convForward = bind('dnnl_dilated_convolution_forward_desc_init', 'piipppppppp');
  const convBackwardData = bind('dnnl_dilated_convolution_backward_data_desc_init', 'pipppppp' + 'p');
  const convBackwardWeights = bind('dnnl_dilated_convolution_backward_weights_desc_init', 'pippppppp' + 'p');
  const bnForward = bind('dnnl_batch_normalization_forward_desc_init', 'pipfu');
  const bnBackward = bind('dnnl_batch_normalization_backward_desc_init', 'pippfu');
  const lnForward = bind('dnnl_layer_normalization_forward_desc_init', 'pippfu');
  const lnBackward = bind('dnnl_layer_normalization_backward_desc_init', 'pipppfu');
  const eltForward = bind('dnnl_eltwise_forward_desc_init', 'piipff');
  const eltBackward = bind('dnnl_eltwise_backward_desc_init', 'pippff');
  const poolForward = bind('dnnl_pooling_v2_forward_desc_init', 'piippppppp');
  const poolBackward = bind('dnnl_pooling_v2_backward_desc_init', 'pippppppp');
  const binaryInit = bind('dnnl_binary_desc_init', 'pippp');
  const matmulInit = bind('dnnl_matmul_desc_init', 'ppppp');
  const reductionInit = bind('dnnl_reduction_desc_init', 'pippff');
  const softmaxInit = bind('dnnl_softmax_forward_desc_init', 'pipi');
  const logSoftmaxInit = bind('dnnl_logsoftmax_forward_desc_init', 'pipi');
  const reorderCreate = bind('dnnl_reorder_primitive_desc_create', 'pphphh');

  check(engineCreate(out, 1, 0), 'dnnl_engine_create');
  const engine = created();
  check(streamCreate(out, engine, 1), 'dnnl_stream_create');
  const stream = created();

  const interned = new Map<string, MemoryDescriptor>();
  const typeNames = new Map<number, DataTypeName>(
    Object.entries(DataType).map(([name, value]) => [value, name as DataTypeName]),
  );

  const intern = (bytes: Uint8Array): MemoryDescriptor => {
    const key = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1');
    const known = interned.get(key);
    if (known) return known;
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const rank = view.getInt32(0, true);
    const isAny = view.getInt32(312, true) === TAG_ANY;
    const descriptor: MemoryDescriptor = {
      id: interned.size,
      dims: Array.from({ length: rank }, (_, axis) => Number(view.getBigInt64(8 + 8 * axis, true))),
      dataType: typeNames.get(view.getInt32(104, true)) ?? 'f32',
      byteLength: isAny ? 0 : descGetSize(bytes),
      isAny,
      native: bytes,
    };
    interned.set(key, descriptor);
    return descriptor;
  };

  const dimsOf = (values: readonly number[]): BigInt64Array => {
    const dims = new BigInt64Array(MAX_DIMS);
    values.forEach((value, axis) => {
      dims[axis] = BigInt(value);
    });
    return dims;
  };
  const raw = (descriptor: MemoryDescriptor): Uint8Array => descriptor.native as Uint8Array;
  const rawOrNull = (descriptor: MemoryDescriptor | null): Uint8Array | null => descriptor && raw(descriptor);

  // One attribute for everything without post-operations: scratchpads belong to the caller, so that memory is pooled and
  // the library never allocates inside a step.
  const makeAttr = (postOps: readonly PostOp[]): number => {
    check(attrCreate(out), 'dnnl_primitive_attr_create');
    const attr = created();
    check(attrSetScratchpad(attr, 1), 'dnnl_primitive_attr_set_scratchpad_mode');
    if (postOps.length > 0) {
      check(postOpsCreate(out), 'dnnl_post_ops_create');
      const ops = created();
      for (const op of postOps) {
        if (op.kind === 'sum') check(postOpsSum(ops, op.scale), 'dnnl_post_ops_append_sum');
        else if (op.kind === 'eltwise')
          check(postOpsEltwise(ops, 1, op.alg, op.alpha, op.beta), 'dnnl_post_ops_append_eltwise');
        else check(postOpsBinary(ops, op.alg, raw(op.src1)), 'dnnl_post_ops_append_binary');
      }
      check(attrSetPostOps(attr, ops), 'dnnl_primitive_attr_set_post_ops');
      postOpsDestroy(ops);
    }
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
        const bytes = new Uint8Array(koffi.decode(address, 'uint8_t', DESCRIPTOR_BYTES) as Uint8Array);
        return new DataView(bytes.buffer, bytes.byteOffset).getInt32(0, true) === 0 ? null : intern(bytes);
      },
      destroy() {
        pdDestroy(handle);
      },
    };
  };

  const operation = new Uint8Array(OPERATION_BYTES);
  /** Creates a primitive descriptor from the operation descriptor just initialised. */
  const finish = (
    call: string,
    initStatus: number,
    postOps: readonly PostOp[] = [],
    hint: PrimitiveDescriptor | null = null,
  ): PrimitiveDescriptor | null => {
    if (initStatus === UNIMPLEMENTED) return null;
    check(initStatus, `${call}_desc_init`);
    const attr = postOps.length > 0 ? makeAttr(postOps) : plainAttr;
    const status = pdCreate(out, operation, attr, engine, hint?.handle ?? 0);
    if (attr !== plainAttr) attrDestroy(attr);
    if (status === UNIMPLEMENTED) return null;
    check(status, `dnnl_primitive_desc_create(${call})`);
    return wrap(created());
  };

  const shapeOf = (shape: ConvolutionShape): [BigInt64Array, BigInt64Array, BigInt64Array, BigInt64Array] => [
    dimsOf(shape.strides),
    dimsOf(shape.dilates),
    dimsOf(shape.padBegin),
    dimsOf(shape.padEnd),
  ];
  const poolOf = (shape: PoolingShape) =>
    [
      dimsOf(shape.strides),
      dimsOf(shape.kernel),
      dimsOf(shape.dilates),
      dimsOf(shape.padBegin),
      dimsOf(shape.padEnd),
    ] as const;

  return {
    version: loaded.version,
    path: loaded.path,
    engine,
    stream,
    batchNormBackwardTakesShift: true,
    descriptor(dims, dataType, format: Format) {
      const bytes = new Uint8Array(DESCRIPTOR_BYTES);
      const type = DataType[dataType];
      if (format === 'any')
        check(descInitByTag(bytes, dims.length, dimsOf(dims), type, TAG_ANY), 'memory_desc_init(any)');
      else if ('strides' in format)
        check(
          descInitByStrides(bytes, dims.length, dimsOf(dims), type, dimsOf(format.strides)),
          `memory_desc_init_by_strides([${dims}], strides [${format.strides}])`,
        );
      else {
        const tag = CHANNEL_BLOCK_TAG[format.channelBlock][dims.length];
        if (!tag)
          throw new OneDnnError(`oneDNN: no ${format.channelBlock}-channel block layout for rank ${dims.length}.`);
        check(descInitByTag(bytes, dims.length, dimsOf(dims), type, tag), 'memory_desc_init_by_tag');
      }
      return intern(bytes);
    },
    convolutionForward(prop, alg, src, weights, bias, dst, shape, postOps) {
      const status = convForward(
        operation,
        prop,
        alg,
        raw(src),
        raw(weights),
        rawOrNull(bias),
        raw(dst),
        ...shapeOf(shape),
      );
      return finish('convolution_forward', status, postOps);
    },
    convolutionBackwardData(alg, diffSrc, weights, diffDst, shape, hint) {
      const status = convBackwardData(operation, alg, raw(diffSrc), raw(weights), raw(diffDst), ...shapeOf(shape));
      return finish('convolution_backward_data', status, [], hint);
    },
    convolutionBackwardWeights(alg, src, diffWeights, diffBias, diffDst, shape, hint) {
      const status = convBackwardWeights(
        operation,
        alg,
        raw(src),
        raw(diffWeights),
        rawOrNull(diffBias),
        raw(diffDst),
        ...shapeOf(shape),
      );
      return finish('convolution_backward_weights', status, [], hint);
    },
    batchNormForward(prop, src, epsilon, flags) {
      return finish('batch_normalization_forward', bnForward(operation, prop, raw(src), epsilon, flags));
    },
    batchNormBackward(diffData, data, epsilon, flags, hint) {
      const status = bnBackward(operation, 128, raw(diffData), raw(data), epsilon, flags);
      return finish('batch_normalization_backward', status, [], hint);
    },
    layerNormForward(prop, src, statistics, epsilon, flags) {
      const status = lnForward(operation, prop, raw(src), raw(statistics), epsilon, flags);
      return finish('layer_normalization_forward', status);
    },
    layerNormBackward(src, statistics, epsilon, flags, hint) {
      const status = lnBackward(operation, 128, raw(src), raw(src), raw(statistics), epsilon, flags);
      return finish('layer_normalization_backward', status, [], hint);
    },
    eltwiseForward(prop, alg, src, alpha, beta) {
      return finish('eltwise_forward', eltForward(operation, prop, alg, raw(src), alpha, beta));
    },
    eltwiseBackward(alg, diffData, data, alpha, beta, hint) {
      return finish('eltwise_backward', eltBackward(operation, alg, raw(diffData), raw(data), alpha, beta), [], hint);
    },
    poolingForward(prop, alg, src, dst, shape) {
      return finish('pooling_forward', poolForward(operation, prop, alg, raw(src), raw(dst), ...poolOf(shape)));
    },
    poolingBackward(alg, diffSrc, diffDst, shape, hint) {
      const status = poolBackward(operation, alg, raw(diffSrc), raw(diffDst), ...poolOf(shape));
      return finish('pooling_backward', status, [], hint);
    },
    binary(alg, src0, src1, dst, postOps) {
      return finish('binary', binaryInit(operation, alg, raw(src0), raw(src1), raw(dst)), postOps);
    },
    matmul(src, weights, bias, dst, postOps) {
      return finish('matmul', matmulInit(operation, raw(src), raw(weights), rawOrNull(bias), raw(dst)), postOps);
    },
    reduction(alg, src, dst) {
      return finish('reduction', reductionInit(operation, alg, raw(src), raw(dst), 0, 0));
    },
    softmaxForward(src, axis, isLog) {
      const init = isLog ? logSoftmaxInit : softmaxInit;
      return finish('softmax_forward', init(operation, Prop.forwardInference, raw(src), axis));
    },
    reorder(src, dst) {
      const status = reorderCreate(out, raw(src), engine, raw(dst), engine, plainAttr);
      if (status === UNIMPLEMENTED) return null;
      check(status, 'dnnl_reorder_primitive_desc_create');
      return wrap(created());
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

/** Bytes per element, for buffers that oneDNN did not size. */
export function elementBytes(dataType: DataTypeName): number {
  return BYTES[dataType];
}
