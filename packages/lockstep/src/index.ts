/** lockstep */
export {};
