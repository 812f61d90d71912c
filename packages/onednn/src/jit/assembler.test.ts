/**
 * Instructions against what GNU as 2.40 makes of their text (Intel's syntax; displacements of 32 bits asked for with {disp32}, and masks'
 * three-byte prefix with {vex3}).
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Assembler, at, Reg } from './assembler.js';

const { rax, rbx, rcx, rdx, rsp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15 } = Reg;

const ENCODED: readonly (readonly [text: string, bytes: string, write: (code: Assembler) => void])[] = [
  ['push r12', '4154', (code) => code.push(r12)],
  ['pop rbx', '5b', (code) => code.pop(rbx)],
  ['mov rdi, r13', '4c89ef', (code) => code.move(rdi, r13)],
  ['mov r14, rax', '4989c6', (code) => code.move(r14, rax)],
  ['movabs r9, 0x123456789abc', '49b9bc9a785634120000', (code) => code.constant(r9, 0x123456789abc)],
  ['{disp32} mov rax, [rbx+40]', '488b8328000000', (code) => code.load(rax, at(rbx, 40))],
  ['{disp32} mov r15, [r12+8]', '4d8bbc2408000000', (code) => code.load(r15, at(r12, 8))],
  ['{disp32} mov rcx, [rsp+64]', '488b8c2440000000', (code) => code.load(rcx, at(rsp, 64))],
  ['add r10, rdx', '4901d2', (code) => code.add(r10, rdx)],
  ['add rsi, 0x12345', '4881c645230100', (code) => code.addConstant(rsi, 0x12345)],
  ['sub r8, 0x12345', '4981e845230100', (code) => code.subtractConstant(r8, 0x12345)],
  ['and rsp, -0x1000', '4881e400f0ffff', (code) => code.andConstant(rsp, -0x1000)],
  ['cmp r12, r15', '4d39fc', (code) => code.compare(r12, r15)],
  ['cmp r13, 0x12345', '4981fd45230100', (code) => code.compareConstant(r13, 0x12345)],
  ['imul r11, rax, 0x12345', '4c69d845230100', (code) => code.scale(r11, rax, 0x12345)],
  ['xor edx, edx; div r11', '31d249f7f3', (code) => code.divide(r11)],
  ['call rax', 'ffd0', (code) => code.call(rax)],
  ['{disp32} prefetcht0 [r9+4096]', '410f188900100000', (code) => code.prefetch(at(r9, 4096))],
  ['sfence', '0faef8', (code) => code.fence()],
  ['vzeroupper', 'c5f877', (code) => code.clearUpper()],
  ['ret', 'c3', (code) => code.return()],
  ['vaddps zmm0, zmm8, zmm31', '62913c4858c7', (code) => code.arithmetic('add', 0, 8, 31)],
  [
    '{disp32} vaddps zmm17, zmm17, [r9+64]',
    '62c17440588940000000',
    (code) => code.arithmetic('add', 17, 17, at(r9, 64)),
  ],
  ['vsubps zmm12, zmm12, zmm20', '62311c485ce4', (code) => code.arithmetic('subtract', 12, 12, 20)],
  ['vmulps zmm5, zmm0, zmm3', '62f17c4859eb', (code) => code.arithmetic('multiply', 5, 0, 3)],
  ['vdivps zmm2, zmm3, zmm2', '62f164485ed2', (code) => code.arithmetic('divide', 2, 3, 2)],
  ['vfmadd231ps zmm4, zmm8, zmm12', '62d23d48b8e4', (code) => code.arithmetic('multiplyAdd', 4, 8, 12)],
  ['vfnmadd231ps zmm8, zmm0, zmm25', '62127d48bcc1', (code) => code.arithmetic('multiplySubtract', 8, 0, 25)],
  ['vpxord zmm31, zmm31, zmm31', '62010540efff', (code) => code.clear(31)],
  ['vsqrtps zmm2, zmm18', '62b17c4851d2', (code) => code.squareRoot(2, 18)],
  ['{disp32} vmovups zmm20, [rax+192]', '62e17c4810a0c0000000', (code) => code.loadFloats(20, at(rax, 192))],
  ['{disp32} vmovups [r12+64], zmm9', '62517c48118c2440000000', (code) => code.storeFloats(at(r12, 64), 9)],
  ['{disp32} vmovntps [rdi+128], zmm3', '62f17c482b9f80000000', (code) => code.streamFloats(at(rdi, 128), 3)],
  [
    '{disp32} vpmovzxwd zmm10, [rsi+96]; vpslld zmm10, zmm10, 16',
    '62727d4833966000000062d12d4872f210',
    (code) => code.loadHalves(10, at(rsi, 96)),
  ],
  [
    'vcvtneps2bf16 ymm30, zmm1; {evex} {disp32} vmovups [r8+32], ymm30',
    '62627e4872f162417c2811b020000000',
    (code) => code.storeHalves(at(r8, 32), 1, 30),
  ],
  [
    'vcvtneps2bf16 ymm30, zmm17; {evex} {disp32} vmovntps [rdi+32], ymm30',
    '62227e4872f162617c282bb720000000',
    (code) => code.streamHalves(at(rdi, 32), 17, 30),
  ],
  ['mov eax, 0x3f000000; vpbroadcastd zmm21, eax', 'b80000003f62e27d487ce8', (code) => code.broadcast(21, 0.5)],
  ['vcmpps k3, zmm2, zmm31, 30', '62916c48c2df1e', (code) => code.isGreater(3, 2, 31)],
  ['vmovaps zmm18{k4}{z}, zmm18', '62a17ccc28d2', (code) => code.select(18, 4, 18)],
  ['{vex3} {disp32} kmovw k2, [r9+6]', 'c4c178909106000000', (code) => code.loadMask(2, at(r9, 6))],
  ['{vex3} {disp32} kmovw [rdi+4], k4', 'c4e17891a704000000', (code) => code.storeMask(at(rdi, 4), 4)],
];

for (const [text, bytes, write] of ENCODED) {
  test(text, () => {
    const code = new Assembler();
    write(code);
    assert.equal(Buffer.from(code.finish()).toString('hex'), bytes);
  });
}

test('jumps go to their labels, whichever comes first', () => {
  const code = new Assembler();
  const [start, end] = [code.label(), code.label()];
  code.jump(end);
  code.place(start);
  code.return();
  code.place(end);
  code.jump(start, 'equal');
  code.jump(start, 'notEqual');
  // jmp over `ret`, je and jne back to it.
  assert.equal(Buffer.from(code.finish()).toString('hex'), 'e901000000' + 'c3' + '0f84f9ffffff' + '0f85f3ffffff');
  const lost = new Assembler();
  lost.jump(lost.label());
  assert.throws(() => lost.finish(), /label has no place/);
});
