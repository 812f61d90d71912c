/** What every kernel begins and ends with, and how a team's threads share its work. */
import { type Assembler, Reg } from './assembler.js';
import type { OpenMpAddresses } from './machine.js';

const { rax, rbx, rbp, rsp, rdi, r12, r13, r14, r15 } = Reg;
/** Registers that a function gives back as it found them (System V ABI). */
const SAVED = [rbx, rbp, r12, r13, r14, r15];

/** A function of one argument, in rbx. rsp may be moved down; it is a multiple of 16 as `body` begins. */
export function withFrame(code: Assembler, body: () => void): void {
  for (const register of SAVED) code.push(register);
  code.move(rbp, rsp);
  code.andConstant(rsp, -16);
  code.move(rbx, rdi);
  body();
  code.clearUpper();
  code.move(rsp, rbp);
  for (const register of SAVED.toReversed()) code.pop(register);
  code.return();
}

/** Calls a function without arguments; its result is in rax. Vectors and most registers are the callee's. */
export function call(code: Assembler, address: number): void {
  code.constant(rax, address);
  code.call(rax);
}

/** r14 and r15 bound the thread's share: from units · thread / threads to units · (thread + 1) / threads. Clobbers r12 and r13. */
export function threadShare(code: Assembler, openMp: OpenMpAddresses, units: number): void {
  call(code, openMp.thread);
  code.move(r12, rax);
  call(code, openMp.threads);
  code.move(r13, rax);
  for (const bound of [r14, r15]) {
    code.scale(rax, r12, units);
    code.divide(r13);
    code.move(bound, rax);
    code.addConstant(r12, 1);
  }
}
