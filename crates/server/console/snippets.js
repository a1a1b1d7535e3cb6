// The playground's request as curl, Python and TypeScript. Each runs as it is, with the key in LOGGIA_API_KEY.

export const LANGUAGES = [{ id: 'curl', name: 'curl' }, { id: 'python', name: 'Python' }, { id: 'typescript', name: 'TypeScript' }];

// `request`: {base, path ('chat/completions' or 'responses'), body, needsKey}.
export function snippet(language, request) {
  return { curl, python, typescript }[language](request);
}

const quoted = text => `'${text.replaceAll("'", "'\\''")}'`;

function curl({ base, path, body, needsKey }) {
  return [
    `curl ${body.stream ? '-N ' : ''}${quoted(`${base}v1/${path}`)}`,
    `-H 'content-type: application/json'`,
    ...(needsKey ? ['-H "authorization: Bearer $LOGGIA_API_KEY"'] : []),
    `-d ${quoted(JSON.stringify(body, null, 2))}`,
  ].join(' \\\n  ');
}

function python({ base, path, body, needsKey }) {
  const isChat = path === 'chat/completions';
  const call = `client.${isChat ? 'chat.completions' : 'responses'}.create(\n${Object.entries(body).map(([name, value]) => `    ${name}=${pythonValue(value, 1)},\n`).join('')})`;
  const head = `${needsKey ? 'import os\n\n' : ''}from openai import OpenAI\n\nclient = OpenAI(base_url=${pythonValue(`${base}v1`)}, api_key=${needsKey ? 'os.environ["LOGGIA_API_KEY"]' : '"unused"'})\n`;
  if (!body.stream) {
    const [name, shown] = isChat ? ['completion', 'completion.choices[0].message'] : ['response', 'response.output_text'];
    return `${head}${name} = ${call}\nprint(${shown})\n`;
  }
  const loop = isChat
    ? 'for chunk in stream:\n    for choice in chunk.choices:\n        print(choice.delta.content or "", end="", flush=True)\n'
    : 'for event in stream:\n    if event.type == "response.output_text.delta":\n        print(event.delta, end="", flush=True)\n';
  return `${head}stream = ${call}\n${loop}print()\n`;
}

function pythonValue(value, depth = 0) {
  const pad = '    '.repeat(depth + 1);
  const end = '    '.repeat(depth);
  if (value === null) return 'None';
  if (value === true) return 'True';
  if (value === false) return 'False';
  if (Array.isArray(value)) return value.length ? `[\n${value.map(one => `${pad}${pythonValue(one, depth + 1)},\n`).join('')}${end}]` : '[]';
  if (typeof value === 'object') {
    const entries = Object.entries(value);
    return entries.length ? `{\n${entries.map(([name, one]) => `${pad}${JSON.stringify(name)}: ${pythonValue(one, depth + 1)},\n`).join('')}${end}}` : '{}';
  }
  // A text of JSON is one of Python's, too: both have the same escapes.
  return JSON.stringify(value);
}

function typescript({ base, path, body, needsKey }) {
  const isChat = path === 'chat/completions';
  const call = `await client.${isChat ? 'chat.completions' : 'responses'}.create(${typescriptValue(body)})`;
  const head = `import OpenAI from 'openai';\n\nconst client = new OpenAI({\n  baseURL: ${typescriptValue(`${base}v1`)},\n  apiKey: ${needsKey ? 'process.env.LOGGIA_API_KEY' : "'unused'"},\n});\n\n`;
  if (!body.stream) {
    const [name, shown] = isChat ? ['completion', 'completion.choices[0].message'] : ['response', 'response.output_text'];
    return `${head}const ${name} = ${call};\nconsole.log(${shown});\n`;
  }
  const loop = isChat
    ? "for await (const chunk of stream) {\n  process.stdout.write(chunk.choices[0]?.delta.content ?? '');\n}\n"
    : "for await (const event of stream) {\n  if (event.type === 'response.output_text.delta') process.stdout.write(event.delta);\n}\n";
  return `${head}const stream = ${call};\n${loop}`;
}

function typescriptValue(value, depth = 0) {
  const pad = '  '.repeat(depth + 1);
  const end = '  '.repeat(depth);
  if (Array.isArray(value)) return value.length ? `[\n${value.map(one => `${pad}${typescriptValue(one, depth + 1)},\n`).join('')}${end}]` : '[]';
  if (value && typeof value === 'object') {
    const entries = Object.entries(value);
    return entries.length ? `{\n${entries.map(([name, one]) => `${pad}${/^[A-Za-z_$][\w$]*$/.test(name) ? name : JSON.stringify(name)}: ${typescriptValue(one, depth + 1)},\n`).join('')}${end}}` : '{}';
  }
  return JSON.stringify(value);
}
