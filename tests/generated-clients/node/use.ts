// Uses the generated TypeScript client against the service at the given URL.
import { Configuration, DefaultApi, ProblemFromJSON, ResponseError } from "./client";

declare const process: { argv: string[]; exitCode: number };

function holds(condition: boolean, what: string): void {
    if (!condition) throw new Error(what);
}

/** The answer that the call must be refused with. */
async function refused(status: number, call: Promise<unknown>): Promise<Response> {
    try {
        await call;
    } catch (error) {
        if (error instanceof ResponseError && error.response.status === status) return error.response;
        throw error;
    }
    throw new Error(`must end with ${status}`);
}

async function detail(response: Response): Promise<string> {
    return ProblemFromJSON(await response.json()).detail;
}

async function use(basePath: string): Promise<void> {
    const api = new DefaultApi(new Configuration({ basePath }));
    const username = "typescript";
    const ada = { dateOfBirth: new Date("1815-12-10") };
    const unborn = { dateOfBirth: new Date(Date.now() + 48 * 3600 * 1000) };

    holds((await api.health()).status === "healthy", "the service is healthy");
    holds((await detail(await refused(404, api.greet({ username })))).includes(" "), "a 404 says why");
    await refused(404, api.check({ username }));
    await api.save({ username, person: ada });
    holds((await api.greet({ username })).message.startsWith("Hello, typescript! "), "a greeting");
    await api.check({ username });
    holds((await detail(await refused(400, api.save({ username, person: unborn })))).includes(" "), "a 400 says why");
    const compressed = api.save({ username, person: ada }, { headers: { "content-type": "application/json", "content-encoding": "gzip" } });
    holds((await detail(await refused(415, compressed))).includes("Content-Encoding"), "a 415 says why");
    holds("paths" in (await api.describe()), "a description");
}

use(process.argv[2] ?? "").catch((error) => {
    console.error(error);
    process.exitCode = 1;
});
