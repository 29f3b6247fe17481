/** Where a server's database is and who we are there. Holds a password: never logged, never in a payload. */
export interface ServerAddress {
  readonly host: string;
  readonly port: number;
  readonly database: string;
  readonly user: string;
  readonly password: string | null;
}

/** For logs and messages. */
export function describeAddress(address: ServerAddress): string {
  return `${address.host}:${address.port}/${address.database}`;
}
