/** A small domain for the type tests, and how they say what a type is. */
import { type Message, type Refusal, aggregate, refuse } from "annals";

export type State = { readonly status: "none" | "booked" | "cancelled"; readonly doctor?: string };

export type Command =
  | Message<"Book", { readonly doctor: string; readonly note?: string }>
  | Message<"Cancel", { readonly reason: string }>;

export type Event =
  | Message<"Booked", { readonly doctor: string }>
  | Message<"Cancelled", { readonly reason: string }>;

export type Refused = Refusal<"already-booked", { readonly by: string }> | Refusal<"not-booked", Record<string, never>>;

export const appointment = aggregate<State, Command, Event, Refused>("Appointment", {
  initial: () => ({ status: "none" }),
  decide: (state, command) => {
    switch (command.type) {
      case "Book":
        if (state.status === "booked") return refuse("already-booked", { by: state.doctor ?? "?" });
        return [{ type: "Booked", data: { doctor: command.data.doctor } }];
      case "Cancel":
        if (state.status !== "booked") return refuse("not-booked");
        return [{ type: "Cancelled", data: command.data }];
    }
  },
  evolve: {
    Booked: (_, { data }) => ({ status: "booked", doctor: data.doctor }),
    Cancelled: (state) => ({ ...state, status: "cancelled" }),
  },
});

export type Paid = Message<"Paid", { readonly amount: number }>;

export const invoice = aggregate<number, Message<"Pay", { readonly amount: number }>, Paid>("Invoice", {
  initial: () => 0,
  decide: (_, { data }) => [{ type: "Paid", data }],
  evolve: { Paid: (sum, { data }) => sum + data.amount },
});

/** Whether two types are the same, neither wider nor `any`. */
export type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;

/** Compiles if the argument is true. */
export declare function check<_T extends true>(): void;
