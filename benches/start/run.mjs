// `node run.mjs <module> <domain>`: prints the milliseconds from import to answer.

const [module, domain] = process.argv.slice(2);
const start = performance.now();
const { answer } = await import(`./${module}.mjs`);
await answer(domain);
process.stdout.write(String(performance.now() - start));
