/** Text forms of the admin database's values, as PgDog writes them. */

const SECOND_MS = 1_000;
const MINUTE_MS = 60 * SECOND_MS;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;

/** `HH:MM:SS:mmm`, over a day `Nd HH:MM:SS:mmm`. */
export function formatElapsed(elapsedMs: number): string {
  const ms = Math.max(0, Math.round(elapsedMs));
  const two = (value: number) => String(Math.floor(value)).padStart(2, "0");
  const days = Math.floor(ms / DAY_MS);
  const clock = [
    two((ms % DAY_MS) / HOUR_MS),
    two((ms % HOUR_MS) / MINUTE_MS),
    two((ms % MINUTE_MS) / SECOND_MS),
  ];
  const text = `${clock.join(":")}:${String(ms % SECOND_MS).padStart(3, "0")}`;
  return days > 0 ? `${days}d ${text}` : text;
}

/** `YYYY-MM-DD HH:MM:SS.mmm TZ` in this process's time zone. */
export function formatTime(time: Date): string {
  const pad = (value: number, digits = 2) => String(value).padStart(digits, "0");
  const date = `${time.getFullYear()}-${pad(time.getMonth() + 1)}-${pad(time.getDate())}`;
  const clock = `${pad(time.getHours())}:${pad(time.getMinutes())}:${pad(time.getSeconds())}.${pad(time.getMilliseconds(), 3)}`;
  const zone = new Intl.DateTimeFormat("en", { timeZoneName: "short" })
    .formatToParts(time)
    .find((part) => part.type === "timeZoneName");
  return `${date} ${clock} ${zone?.value ?? "UTC"}`;
}

const UNITS = ["B", "KB", "MB", "GB", "TB", "PB"] as const;

/** `11.15 GB`, 1024-based; below one KB without a fraction. */
export function formatBytes(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 ? String(Math.round(value)) : value.toFixed(2)} ${UNITS[unit] ?? "B"}`;
}

/** `1,234,567`. */
export function formatCount(count: number): string {
  return count.toLocaleString("en-US", { maximumFractionDigits: 0 });
}

/** The largest unit that is exact: 500 ms, 30 s, 1 m, 24 h. */
export function formatDuration(durationMs: number): string {
  const units = [
    [DAY_MS, "d"],
    [HOUR_MS, "h"],
    [MINUTE_MS, "m"],
    [SECOND_MS, "s"],
  ] as const;
  for (const [size, unit] of units)
    if (durationMs >= size && durationMs % size === 0) return `${durationMs / size}${unit}`;
  return `${durationMs}ms`;
}
