// node as a client: `node node_client.js fetch|agent URL FILE PUT_NAME GET_NAME...`. Thrice: PUTs the
// file, and GETs each name and compares it with the file. Says on stdout how many connections the
// agent made and how many answers were right, and ends with 1 at the first fault.
'use strict';

const fs = require('fs');
const http = require('http');

const [way, url, file, putName, ...getNames] = process.argv.slice(2);
const content = fs.readFileSync(file);
const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
const sockets = new Set();

async function byFetch(method, name) {
    const options = method === 'PUT' ? { method, body: content } : { method };
    const response = await fetch(`${url}/${name}`, options);
    return { status: response.status, content: Buffer.from(await response.arrayBuffer()) };
}

// Without a length node sends the content in chunks.
function byAgent(method, name) {
    return new Promise((resolve, reject) => {
        const request = http.request(`${url}/${name}`, { agent, method }, (response) => {
            const parts = [];
            response.on('data', (part) => parts.push(part));
            response.on('end', () => resolve({ status: response.statusCode, content: Buffer.concat(parts) }));
            response.on('error', reject);
        });
        request.on('socket', (socket) => sockets.add(socket));
        request.on('error', reject);
        if (method === 'PUT') {
            request.write(content.subarray(0, 1000));
            request.write(content.subarray(1000));
        }
        request.end();
    });
}

async function main() {
    const ask = way === 'fetch' ? byFetch : byAgent;
    let right = 0;
    for (let turn = 0; turn < 3; turn++) {
        const stored = await ask('PUT', putName);
        if (stored.status < 200 || stored.status > 204) {
            throw new Error(`PUT: ${stored.status} ${stored.content}`);
        }
        right++;
        for (const name of getNames) {
            const got = await ask('GET', name);
            if (got.status !== 200 || !got.content.equals(content)) {
                throw new Error(`GET ${name}: ${got.status}, ${got.content.length} bytes`);
            }
            right++;
        }
    }
    agent.destroy();
    console.log(JSON.stringify({ right, connections: sockets.size }));
}

main().catch((error) => {
    console.error(error);
    process.exit(1);
});
