/** onednn */
export {};
