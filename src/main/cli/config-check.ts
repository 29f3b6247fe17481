import { type ConfigPaths, readConfig } from "../../config/read-config.js";
import { reportFailure } from "./failure-report.js";

/** `sluice configcheck`. @returns the exit code */
export function checkConfig(paths: ConfigPaths): number {
  try {
    const config = readConfig(paths);
    for (const warning of config.warnings) process.stdout.write(`warning: ${warning}\n`);
    const databases = [...new Set(config.databases.map((database) => database.name))];
    process.stdout.write(
      `configuration is valid: databases ${databases.join(", ")}; ${config.users.length} users\n`,
    );
    return 0;
  } catch (error) {
    return reportFailure(error);
  }
}
