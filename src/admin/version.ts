/** Of package.json; a test holds the two together, so that no process reads files for it. */
export const VERSION = "0.1.0";

/** SHOW VERSION, and what the admin database gives as its server_version. */
export const PRODUCT_VERSION = `Sluice ${VERSION} (Node.js ${process.versions.node})`;

/** SHOW server_version: of the parser that reads statements (libpg-query). */
export const PARSER_POSTGRES_VERSION = "18.0";
