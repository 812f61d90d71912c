/** Names that come out of files and folders, as they may stand in a message: whoever made them may have meant the terminal. */

/** Of a name in a message. */
const SHOWN_CHARACTERS = 80;

/** In quotation marks, without control characters, on one line, and not a megabyte long. */
export function quoted(name: string): string {
  const short = name.length > SHOWN_CHARACTERS ? `${name.slice(0, SHOWN_CHARACTERS)}…` : name;
  // C0 and C1 controls move a terminal's cursor; format characters turn the text around; a lone surrogate is no character.
  return `'${short.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu, escaped)}'`;
}

function escaped(character: string): string {
  return `\\u{${(character.codePointAt(0) as number).toString(16)}}`;
}
