// node's http as a server of files: `node node_http.js DIR [IDLE_MS]`; without the number it keeps
// node's own timeout for idle connections. What it answers is said in `servers/__init__.py`, and one
// thing more: `GET /block/MS` says on stdout that it begins, and then keeps the only thread busy for
// so long.
'use strict';

const fs = require('fs');
const http = require('http');
const path = require('path');

const [directory, idleMs] = process.argv.slice(2);
const notes = [];
let load = 0;
let stored = 0;

function answer(response, status, content) {
    response.writeHead(status, { 'Content-Length': Buffer.byteLength(content) });
    response.end(content);
}

function give(request, response) {
    const streams = request.url.startsWith('/stream/');
    const name = path.join(directory, request.url.slice(streams ? 8 : 1));
    fs.stat(name, (error, found) => {
        if (error) {
            return answer(response, 404, 'not here\n');
        }
        // Without a length node sends chunks.
        response.writeHead(200, streams ? {} : { 'Content-Length': found.size });
        if (request.method === 'HEAD') {
            return response.end();
        }
        fs.createReadStream(name).pipe(response);
    });
}

function store(request, response) {
    const part = path.join(directory, `part-${stored++}`);
    const file = fs.createWriteStream(part);
    request.pipe(file).on('finish', () => {
        fs.rename(part, path.join(directory, request.url.slice(1)), () => answer(response, 200, 'stored\n'));
    });
}

function note(request, response) {
    notes.push(request.url.slice('/note/'.length));
    request.on('end', () => answer(response, 200, 'noted\n')).resume();
}

function block(milliseconds) {
    fs.writeSync(1, 'blocking\n');
    const end = Date.now() + milliseconds;
    while (Date.now() < end);
}

const server = http.createServer((request, response) => {
    load++;
    if (idleMs) {
        // In the place of keepAliveTimeout, to which later ones of node add a second.
        response.on('finish', () => request.socket.setTimeout(Number(idleMs)));
    }
    const url = request.url;
    if (request.method === 'PUT') {
        store(request, response);
    } else if (request.method === 'POST') {
        note(request, response);
    } else if (url === '/healthcheck') {
        answer(response, 200, `0\n${load}\n`);
    } else if (url === '/notes') {
        answer(response, 200, notes.map((one) => one + '\n').join(''));
    } else if (url.startsWith('/wait/')) {
        setTimeout(() => answer(response, 200, 'waited\n'), Number(url.slice(6)));
    } else if (url.startsWith('/block/')) {
        block(Number(url.slice(7)));
        answer(response, 200, 'blocked\n');
    } else {
        give(request, response);
    }
});

server.listen(0, '127.0.0.1', 1024, () => {
    console.log(`listening on http://127.0.0.1:${server.address().port}`);
});
