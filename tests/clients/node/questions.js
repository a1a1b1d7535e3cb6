// The questions of `../questions.py`, for Node. For each there is a recording of Ollama.

const says = (content) => [{ role: 'user', content }];
const greedy = { seed: 7, temperature: 0 };

export const CAPITAL = { messages: says('What is the capital of France?'), max_tokens: 24, ...greedy };
export const CAPITAL_BEFORE = { messages: says('What is the capital of France?'), max_tokens: 40, stop: ['of France is'], ...greedy };
export const STORY = { messages: says('Tell me a story.'), ...greedy };
export const DRAGON = { messages: says('Write a very long story about a dragon.'), max_tokens: 400, seed: 1 };
export const INVENTED = { messages: says('Invent a name.'), max_tokens: 16, seed: 42, temperature: 1.0 };
