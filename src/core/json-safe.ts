/**
 * What payload conversion keeps as it is. Rejected at compile time: bigint (throws), Map ({}), Date (a
 * string), Error ({}), functions and undefined fields (vanish).
 */
export type JsonSafe =
  | string
  | number
  | boolean
  | null
  | readonly JsonSafe[]
  | { readonly [key: string]: JsonSafe };
