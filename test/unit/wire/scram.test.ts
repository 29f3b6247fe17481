import { describe, expect, test } from "vitest";
import { ProtocolViolation } from "../../../src/wire/protocol-violation.js";
import { makeVerifier, md5Password, ScramClient, ScramServer } from "../../../src/wire/scram.js";

async function login(known: string, tried: string): Promise<string | null> {
  const server = new ScramServer(await makeVerifier(known));
  const client = new ScramClient(tried);
  const final = server.verify(await client.respond(server.challenge(client.first())));
  if (final !== null) client.finish(final);
  return final;
}

describe("SCRAM-SHA-256", () => {
  test("the right password is proved to both ends", async () => {
    expect(await login("pä ss", "pä ss")).toMatch(/^v=/);
    // SASLprep: a no-break space is a space.
    expect(await login("a b", "a\u00a0b")).toMatch(/^v=/);
  });

  test("a wrong password, a changed proof and a foreign nonce prove nothing", async () => {
    expect(await login("right", "wrong")).toBeNull();
    const server = new ScramServer(await makeVerifier("right"));
    const client = new ScramClient("right");
    const final = await client.respond(server.challenge(client.first()));
    expect(server.verify(final.replace(/r=[^,]+/, "r=foreign"))).toBeNull();
  });

  test("malformed messages are typed errors", async () => {
    const server = new ScramServer(await makeVerifier("x"));
    for (const first of ["", "p=tls-unique,,n=,r=abc", "n,,n=", "garbage"])
      expect(() => server.challenge(first)).toThrow(ProtocolViolation);
    expect(() => server.verify("garbage")).toThrow(ProtocolViolation);
    const client = new ScramClient("x");
    await expect(client.respond("r=other,s=AAAA,i=4096")).rejects.toThrow(ProtocolViolation);
    const { length } = client.first();
    const nonce = client.first().slice(length - 24);
    await expect(client.respond(`r=${nonce}abc,s=AAAA,i=99999999`)).rejects.toThrow(
      ProtocolViolation,
    );
  });

  test("md5", () => {
    expect(md5Password("u", "p", Buffer.from([1, 2, 3, 4]))).toMatch(/^md5[0-9a-f]{32}$/);
  });
});
