/** Forms whose refusals stand at the field they are about. */

import { h, isIdle, setIdle, setText } from "./dom.js";
import type { Problem } from "./words.js";

type Control = HTMLInputElement | HTMLSelectElement | HTMLTextAreaElement;

export interface Form {
  readonly element: HTMLFormElement;
  /** The value of a field, without blanks at its ends. */
  value(field: string): string;
  set(field: string, value: string): void;
  /** Shows the problem where it belongs and takes the user there. */
  showProblem(problem: Problem): void;
  /** Makes it a form that nothing has come of: what is under way is of one that was before. */
  renew(): void;
  focus(): void;
}

export interface Field {
  readonly name: string;
  readonly label: string;
  readonly control: Control;
}

let forms = 0;

/**
 * Rows of fields side by side, a submit button, and whatever else belongs in its row. `submit` is told
 * how to find out, when it has waited, whether the form is still the one that was sent.
 */
export function createForm(
  rows: readonly (readonly Field[])[],
  submitLabel: string,
  submit: (isSame: () => boolean) => Promise<void>,
  ...others: HTMLElement[]
): Form {
  forms += 1;
  const prefix = `form-${forms}`;
  const controls = new Map<string, { control: Control; problem: HTMLElement }>();

  const place = ({ name, label, control }: Field) => {
    const id = `${prefix}-${name}`;
    const problem = h("p", { class: "problem", id: `${id}-problem`, role: "alert" });
    control.id = id;
    control.name = name;
    control.setAttribute("aria-describedby", problem.id);
    control.addEventListener("input", clearProblem);
    controls.set(name, { control, problem });
    return h("div", { class: "field" }, h("label", { for: id }, label), control, problem);
  };

  const general = h("p", { class: "problem", role: "alert" });
  const button = h("button", { class: "primary", type: "submit" }, submitLabel);
  const element = h("form", { novalidate: true });
  element.append(
    ...rows.map((fields) => h("div", { class: "row" }, ...fields.map(place))),
    general,
    h("div", { class: "buttons" }, button, ...others),
  );
  let renewals = 0;
  element.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (isIdle(button)) return;
    clearProblem();
    setIdle(button, true);
    const before = renewals;
    const isSame = () => renewals === before;
    try {
      await submit(isSame);
    } finally {
      if (isSame()) setIdle(button, false);
    }
  });

  function clearProblem(): void {
    setText(general, "");
    for (const { control, problem } of controls.values()) {
      setText(problem, "");
      control.removeAttribute("aria-invalid");
    }
  }

  const get = (name: string) => {
    const found = controls.get(name);
    if (!found) throw new Error(`the form has no field ${name}`);
    return found;
  };

  return {
    element,
    renew() {
      renewals += 1;
      clearProblem();
      setIdle(button, false);
    },
    value: (name) => get(name).control.value.trim(),
    set(name, value) {
      const { control } = get(name);
      control.value = value;
      control.dispatchEvent(new Event("change"));
    },
    showProblem({ fields, message }) {
      clearProblem();
      const field = fields.find((name) => controls.has(name));
      if (field === undefined) return setText(general, message);
      const { control, problem } = get(field);
      setText(problem, message);
      control.setAttribute("aria-invalid", "true");
      control.focus();
    },
    focus: () => [...controls.values()][0]?.control.focus(),
  };
}

/** The end follows the start, so that the appointment stays as long as it was. */
export function keepLength(start: HTMLInputElement, end: HTMLInputElement): void {
  const minutes = ({ value }: HTMLInputElement) => {
    const [hours, rest] = value.split(":").map(Number);
    return (hours ?? NaN) * 60 + (rest ?? NaN);
  };
  let before = NaN;
  const remember = () => {
    // A time that is half typed is none.
    if (!Number.isNaN(minutes(start))) before = minutes(start);
  };
  start.addEventListener("change", remember);
  start.addEventListener("input", () => {
    const moved = minutes(end) + minutes(start) - before;
    if (!Number.isNaN(moved) && moved > 0 && moved < 1440) {
      end.value = `${String(Math.floor(moved / 60)).padStart(2, "0")}:${String(moved % 60).padStart(2, "0")}`;
    }
    remember();
  });
}
