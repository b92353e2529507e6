/** The little that is needed in place of a framework. */

type Attributes = Record<string, string | number | boolean | undefined | ((event: never) => void)>;
type Child = Node | string | false | undefined;

/** An element with attributes (`true` sets an empty one), listeners (`onclick`, …) and children. */
export function h<Name extends keyof HTMLElementTagNameMap>(
  name: Name,
  attributes: Attributes = {},
  ...children: Child[]
): HTMLElementTagNameMap[Name] {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") {
      element.addEventListener(key.slice(2), value as EventListener);
    } else if (value !== undefined && value !== false) {
      element.setAttribute(key, value === true ? "" : String(value));
    }
  }
  element.append(...children.filter((child) => child !== undefined && child !== false));
  return element;
}

/** Sets the text only if it differs, so that screen readers are told of changes alone. */
export function setText(element: Element, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

/**
 * Makes these, in this order, an element's children. What stays is the same element, and what has the
 * focus is not moved: that would take the focus from it, and the click from a button that is held down.
 */
export function setChildren(parent: Element, children: readonly Element[]): void {
  const wanted = new Set(children);
  for (const child of [...parent.children]) if (!wanted.has(child)) child.remove();
  const fixed = children.find((child) => child.parentElement === parent && child.contains(document.activeElement));
  let next: Element | null = null;
  for (const child of [...children].reverse()) {
    const inPlace = child.parentElement === parent && child.nextElementSibling === next;
    if (child !== fixed && !inPlace) parent.insertBefore(child, next);
    next = child;
  }
}

/** Keeps what is made for each item for as long as the item is shown. */
export function keyed<Item, Made>(make: (item: Item) => Made): (items: readonly Item[]) => Made[] {
  let kept = new Map<Item, Made>();
  return (items) => {
    kept = new Map(items.map((item) => [item, kept.get(item) ?? make(item)]));
    return [...kept.values()];
  };
}

/** Unlike with `disabled`, the button keeps the focus. Its listener must look itself, by `isIdle`. */
export function setIdle(button: HTMLButtonElement, idle: boolean): void {
  button.setAttribute("aria-disabled", String(idle));
}

export const isIdle = (button: HTMLButtonElement) => button.getAttribute("aria-disabled") === "true";

/** Whether the focus was on an element that can't have it any more. */
export function isLost(focused: Element | null): boolean {
  return focused !== null && !(focused.isConnected && focused.checkVisibility() && !focused.matches("[inert] *"));
}

export function byId<T extends HTMLElement = HTMLElement>(id: string): T {
  const element = document.getElementById(id);
  if (!element) throw new Error(`index.html has no #${id}`);
  return element as T;
}

export function options(items: readonly { id: string; name: string }[], chosen?: string): HTMLOptionElement[] {
  return items.map(({ id, name }) => h("option", { value: id, selected: id === chosen }, name));
}
