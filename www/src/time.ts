/**
 * The page shows the clock on the wall; events have UTC. A day here is a local one, written
 * 2026-11-23, as `<input type="date">` writes it.
 */

const locale = "en-GB";

const two = (n: number) => String(n).padStart(2, "0");
/** Who types a year has one of these first: 0002, 0020, 0203. */
const four = (n: number) => String(n).padStart(4, "0");

export function dayOf(time: string | Date): string {
  const date = new Date(time);
  return `${four(date.getFullYear())}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
}

export function addDays(day: string, days: number): string {
  const date = midnight(day);
  date.setDate(date.getDate() + days);
  return dayOf(date);
}

export function midnight(day: string): Date {
  return new Date(`${day}T00:00`);
}

/** As `<input type="time">` writes it. */
export function timeOfDay(time: string | Date): string {
  const date = new Date(time);
  return `${two(date.getHours())}:${two(date.getMinutes())}`;
}

/** The moment in UTC, or "" if there is none: the domain then says what it misses. */
export function moment(day: string, timeOfDay: string): string {
  const date = new Date(`${day}T${timeOfDay}`);
  return day === "" || timeOfDay === "" || Number.isNaN(date.getTime()) ? "" : date.toISOString();
}

/** Minutes on the clock from the day's midnight until then: negative before it, above 1440 after it. */
export function minutesInto(day: string, time: string): number {
  const date = new Date(time);
  const days = Math.round((midnight(dayOf(date)).getTime() - midnight(day).getTime()) / 86_400_000);
  return days * 1440 + date.getHours() * 60 + date.getMinutes();
}

const format = (options: Intl.DateTimeFormatOptions) => {
  const formatter = new Intl.DateTimeFormat(locale, options);
  return (time: string | Date) => formatter.format(new Date(time));
};

/** Monday 23 November 2026 */
export const longDay = format({ weekday: "long", day: "numeric", month: "long", year: "numeric" });
/** Mon 23 Nov */
export const shortDay = format({ weekday: "short", day: "numeric", month: "short" });
/** Mon */
export const weekday = format({ weekday: "short" });
/** 23 Nov 2026, 09:30:12 */
export const exactly = format({
  day: "numeric",
  month: "short",
  year: "numeric",
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
});

/** 09:00–09:30 */
export function range({ start, end }: { start: string; end: string }): string {
  return `${timeOfDay(start)}–${timeOfDay(end)}`;
}
