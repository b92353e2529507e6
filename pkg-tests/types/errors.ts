/** What the compiler says about errors. */
import { type ErrorCode, type RefusedError, AnnalsError } from "annals";
import { type Refused, type Same, check } from "./domain.js";

export function caught(error: unknown) {
  // @ts-expect-error nobody knows what was thrown
  void error.code;
  if (AnnalsError.is(error)) {
    check<Same<typeof error.code, ErrorCode>>();
    // @ts-expect-error there is no such code
    if (error.code === "wrong-version") return;
  }
  if (AnnalsError.is(error, "wrong-revision")) {
    check<Same<typeof error.code, "wrong-revision">>();
    check<Same<typeof error.details.actual, number>>();
    check<Same<typeof error.details.stream.id, string>>();
    // @ts-expect-error it tells what was found, not what was expected
    void error.details.expected;
  }
  if (AnnalsError.is(error, "refused")) check<Same<typeof error.details, { readonly code: string; readonly details: unknown }>>();
  if (AnnalsError.is(error, "storage-full")) check<Same<typeof error.details.retryable, boolean>>();
  if (AnnalsError.is(error, "command-id-reused")) check<Same<typeof error.details.commandId, string>>();
  if (AnnalsError.is(error, "unreadable-event")) check<Same<typeof error.details.revision, number>>();
  // @ts-expect-error there is no such code
  AnnalsError.is(error, "wrong-version");
  // Who knows the domain may say so.
  const refused = error as RefusedError<Refused>;
  check<Same<typeof refused.details.code, Refused["code"]>>();
}
