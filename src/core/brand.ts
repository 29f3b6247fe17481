declare const brand: unique symbol;

/** A value that only its constructor makes: `Brand<bigint, "Lsn">` is no plain bigint. */
export type Brand<T, Name extends string> = T & { readonly [brand]: Name };
