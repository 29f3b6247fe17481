/**
 * Whether payload conversion keeps a type as it is. It spoils bigint (throws), Map and Error ({}), Date (a
 * string), functions and undefined fields (vanish): a payload with one of them does not compile where this is
 * asked to be `true`.
 */
export type IsJsonSafe<T> = [T] extends [string | number | boolean | null]
  ? true
  : T extends string | number | boolean | null
    ? true
    : T extends Spoiled
      ? false
      : T extends readonly (infer Item)[]
        ? IsJsonSafe<Item>
        : T extends object
          ? false extends { [Key in keyof T]-?: IsJsonSafe<Required<T>[Key]> }[keyof T]
            ? false
            : true
          : false;

type Spoiled =
  | bigint
  | symbol
  | undefined
  | Date
  | Error
  | RegExp
  | ReadonlyMap<unknown, unknown>
  | ReadonlySet<unknown>
  | ((...args: never[]) => unknown);
