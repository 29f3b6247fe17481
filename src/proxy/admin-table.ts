import type { AdminRow, AdminType } from "./channel.js";

export interface AdminColumn {
  readonly name: string;
  readonly type: AdminType;
}

/** By key, in order. The key is the name that clients see, unless the table needs one name twice. */
export type ColumnTypes = Readonly<Record<string, AdminType | AdminColumn>>;

interface ValueOf {
  readonly text: string | null;
  readonly bigint: number | null;
  readonly numeric: number | null;
  readonly bool: boolean | null;
}

type TypeOf<Column> = Column extends AdminColumn ? Column["type"] : Column;

/** One row by its columns' keys: what is missing does not compile. */
export type RowOf<Columns extends ColumnTypes> = {
  readonly [Key in keyof Columns]: ValueOf[TypeOf<Columns[Key]> & AdminType];
};

/** What a SHOW returns: clients read columns by position, the code writes them by name. */
export interface AdminTable<Columns extends ColumnTypes> {
  readonly columns: readonly AdminColumn[];
  /** The values in the order of the columns. A key that is no column does not compile either. */
  row<Row extends RowOf<Columns>>(
    values: Row & Readonly<Record<Exclude<keyof Row, keyof Columns>, never>>,
  ): AdminRow;
}

export function adminTable<const Columns extends ColumnTypes>(types: Columns): AdminTable<Columns> {
  const keys: readonly (keyof Columns)[] = Object.keys(types);
  return {
    columns: Object.entries(types).map(([name, type]) =>
      typeof type === "string" ? { name, type } : type,
    ),
    row: (values) => keys.map((key) => values[key]),
  };
}
