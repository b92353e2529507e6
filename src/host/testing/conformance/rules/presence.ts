/** What an adapter knows of who is there. */
import { ensure, same } from "../expect.js";
import type { Rule } from "../rule.js";
import type { Subject } from "../subject.js";

/** Notes in which order holders of names are gone, as one adapter hears of it. */
function watcher(subject: Subject) {
  const giving = new AbortController();
  const gone: string[] = [];
  return {
    gone,
    /** Resolves when it has been noted. */
    wait: (name: string) => subject.presence.whenGone(name, giving.signal).then(() => gone.push(name)),
    giveUp: () => giving.abort(),
  };
}

const isRejected = (waiting: Promise<unknown>): Promise<boolean> => waiting.then(() => false, () => true);

export const presence: readonly Rule[] = [
  {
    name: "who holds a name is there until it lets go, and gone from then on",
    needs: "presence",
    async run(subject) {
      const [one, two, three] = await Promise.all(["", "", ""].map(() => subject.presence.hold()));
      same(new Set([one!.name, two!.name, three!.name]).size, 3, "names of three holders");
      const { gone, wait } = watcher(subject);
      const waiting = [one!, two!, three!, two!].map(({ name }) => wait(name));
      two!.release();
      await Promise.all([waiting[1], waiting[3]]);
      same(gone, [two!.name, two!.name], "who is gone");
      three!.release();
      three!.release();
      await waiting[2];
      await wait(two!.name);
      same(gone.slice(2), [three!.name, two!.name], "who is gone then");
      const other = await subject.presence.hold();
      ensure(other.name !== two!.name && other.name !== three!.name, "a name is given again");
      one!.release();
      other.release();
      await Promise.all([waiting[0], wait(other.name)]);
    },
  },
  {
    name: "nobody is told that somebody is gone of whom nothing is known, or for whom nobody waits any more",
    needs: "presence",
    async run(subject) {
      const held = await subject.presence.hold();
      const { gone, wait, giveUp } = watcher(subject);
      const unknown = isRejected(wait("somebody else"));
      const givenUp = isRejected(wait(held.name));
      // What would be told is told by now.
      const fence = await subject.presence.hold();
      fence.release();
      await wait(fence.name);
      same(gone, [fence.name], "who is gone");
      giveUp();
      same(await Promise.all([unknown, givenUp]), [true, true], "whether waiting has been given up");
      held.release();
      await watcher(subject).wait(held.name);
      same(gone, [fence.name], "who is gone then");
    },
  },
  {
    name: "another adapter on the same store knows who is there, and who is gone",
    needs: ["presence", "connections"],
    async run(subject, place) {
      const other = await place.another();
      const [one, two] = [await subject.presence.hold(), await subject.presence.hold()];
      const { gone, wait } = watcher(other);
      const waiting = [wait(one.name), wait(two.name)];
      two.release();
      await waiting[1];
      same(gone, [two.name], "who is gone");
      one.release();
      await waiting[0];
    },
  },
  {
    name: "who held a name is gone when its process has ended",
    needs: ["presence", "processes"],
    async run(subject, { elsewhere }) {
      const { name } = await elsewhere({ kind: "hold" });
      await watcher(subject).wait(name!);
    },
  },
];
