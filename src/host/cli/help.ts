/** What `annals help` says. */

const OVERVIEW = `annals looks into a store of events, checks it, and carries its log elsewhere.

Usage: annals <command> <arguments> [options]

  inspect <store>               what there is in it
  history <store> <type> <id>   the events of one aggregate
  verify  <store or archive>    every rule that is broken
  replay  <store>               what a domain makes of all events, and what fails
  export  <store> <file>        the log, or a part of it, as an archive
  import  <file> <store>        an archive into a store
  copy    <from> <to>           the log of one store into another
  migrate <store>               an older format to the newest

A store is a path to a SQLite file, or a URL of PostgreSQL such as
postgres://user@host/database?schema=annals. Only import, copy and migrate write,
and only to the store that they name last. annals help <command> tells more.

Options of every command:
  --json           one JSON value for machines; errors too, on standard error
  --driver <name>  node:sqlite, bun:sqlite, better-sqlite3 or libsql; otherwise
                   the first of them that can be loaded
  --help           what annals help <command> tells

Exit codes: 0 done and sound; 1 faults were found; 2 given wrongly;
3 it could not be done; 130 interrupted.`;

const COMMANDS: { readonly [name: string]: readonly [usage: string, about: string] } = {
  inspect: [
    "annals inspect <store>",
    `Tells the store's epoch, how many events, commits and streams it has, by type,
and how far views, reactions and named readers have come.`,
  ],
  history: [
    "annals history <store> <type> <id> [--at <point>]",
    `Lists the events of one aggregate as they are stored.

  --at 5                      up to revision 5
  --at position:120           up to this place in the log
  --at 2026-11-17T14:05:00Z   up to what was recorded then

Names that begin with a dash come after --, and options before that.

  annals history clinic.db Appointment a-1
  annals history --json clinic.db -- Appointment -1`,
  ],
  replay: [
    "annals replay <store> [--domain <module>]",
    `Walks the log from its first event. Nothing is written, and no reaction runs.

  --domain ./domain.js   a module that exports aggregates and projections: every
                         stream is folded to its state and every view is made, and
                         what can't be is told. Ask this before a release.`,
  ],
  verify: [
    "annals verify <store or archive> [--domain <module>]",
    `Reads the whole store, or the whole archive, and tells every rule that is
broken: gaps and doubles, payloads that can't be read, streams, commands and tags
that disagree with the events, and views, reactions, readers and snapshots that
are ahead of them. Exit code 1 if there is one.

  --domain ./domain.js   a module that exports projections: documents of their
                         views are compared with their indexes`,
  ],
  export: [
    "annals export <store> <file> [options]",
    `Writes the log to a file of JSON lines with checksums; - is standard output.

  --after <number>        only what comes after this position: what an export
                          before has come to
  --type <name>           only events of this type
  --aggregate <name>      only those of aggregates of this type
  --tag <tag>             only those with this tag
  --correlation <id>      only those of one chain of causes
  --resume                goes on with a file that was cut off
  --force                 overwrites the file, when the archive is whole

--type, --aggregate and --tag may be given several times: any of each is enough.
Whole streams can be imported again, parts of them can be read.

  annals export clinic.db clinic.jsonl
  annals export clinic.db - | gzip > clinic.jsonl.gz`,
  ],
  import: [
    "annals import <file> <store> [--partial]",
    `Puts an archive into a store, which is made if it is not there; - is standard
input. Ids, revisions, times and payloads stay, and each part is checked before it
is written. The store must be empty, or have what the archive begins with: so an
import that was interrupted goes on when it is given again. Nobody else may write
to the store meanwhile. No reaction runs for what is imported.

  --partial   takes an archive that was cut off for all that there is

  annals import clinic.jsonl restored.db
  gunzip -c clinic.jsonl.gz | annals import - restored.db`,
  ],
  copy: [
    "annals copy <from> <to>",
    `Puts the log of one store into another, as export and import would. What is made
of the events (views, snapshots) is made anew; where reactions and named readers
are is not copied.

  annals copy clinic.db postgres://clinic@localhost/clinic`,
  ],
  migrate: [
    "annals migrate <store>",
    `Brings a store of an older format to the newest, in one transaction. An
application does that by itself when it opens the store; earlier releases can't
open it then.`,
  ],
};

export function help(command?: string): string {
  if (command === undefined) return OVERVIEW;
  const [usage, about] = COMMANDS[command]!;
  return `Usage: ${usage}\n\n${about}\n\nannals help tells the options of every command.`;
}

export function usage(command?: string): string {
  if (command === undefined) return "annals help tells what there is.";
  return `Usage: ${COMMANDS[command]![0]}\nannals help ${command} tells more.`;
}
