/** official */
export {};
