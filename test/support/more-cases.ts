import fc from "fast-check";
import { cases } from "./cases.js";

// For properties that leave it to fast-check how often they are tried.
fc.configureGlobal({ numRuns: cases(100) });
