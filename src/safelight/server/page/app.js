// The server's own page: one form, one job followed, the last jobs below. No build step, nothing from elsewhere.

const find = (id) => document.getElementById(id);
const OVER = ["succeeded", "failed", "cancelled"];
const NUMBERS = ["width", "height", "batch_size", "steps", "guidance_scale"];
let stream = null;
let followed = null;

async function call(path, options = {}) {
  const response = await fetch(path, options);
  const body = await response.json();
  if (!response.ok) throw new Error(words(body));
  return body;
}

function words(problem) {
  const faults = (problem.errors || []).map((each) => `${each.path}: ${each.message}. ${each.hint}`);
  return faults.length ? faults.join("\n") : `${problem.detail || problem.title} ${problem.hint || ""}`;
}

function complain(error) {
  find("problem").textContent = error ? error.message : "";
  find("problem").hidden = !error;
}

function option(value, text, chosen) {
  const made = document.createElement("option");
  made.value = value;
  made.textContent = text;
  made.selected = Boolean(chosen);
  return made;
}

function remember(form) {
  localStorage.setItem("request", JSON.stringify(Object.fromEntries(new FormData(form))));
}

function recall(form) {
  const kept = JSON.parse(localStorage.getItem("request") || "{}");
  for (const [name, value] of Object.entries(kept)) {
    const field = form.elements.namedItem(name);
    if (field && (field.tagName !== "SELECT" || [...field.options].some((each) => each.value === value))) field.value = value;
  }
}

async function fillMenus() {
  const [models, samplers, schedules] = await Promise.all([
    call("/v1/models"), call("/v1/samplers"), call("/v1/schedules"),
  ]);
  for (const each of models.data) find("model").append(option(each.id, each.title || each.id, each.is_default));
  if (!models.data.length) find("model").append(option("", "no model was found"));
  for (const each of samplers.samplers) find("sampler").append(option(each.id, each.label));
  for (const each of schedules.schedules) find("schedule").append(option(each.id, each.label));
}

// JavaScript's numbers are exact below 2^53 only, so a seed goes into the text of the JSON as it was typed.
function body(form) {
  const asked = { operation: "image.generate" };
  let seed = "";
  for (const [name, text] of new FormData(form)) {
    const value = String(text).trim();
    if (value === "") continue;
    if (name === "seed") seed = value;
    else asked[name] = NUMBERS.includes(name) ? Number(value) : value;
  }
  const json = JSON.stringify(asked);
  return seed ? `${json.slice(0, -1)},"seed":${seed.replace(/^0+(?=\d)/, "")}}` : json;
}

async function submit(event) {
  event.preventDefault();
  const form = event.target;
  complain(null);
  remember(form);
  find("generate").disabled = true;
  try {
    const job = await call("/v1/jobs", {
      method: "POST", headers: { "Content-Type": "application/json" }, body: body(form),
    });
    follow(job.id);
    await showHistory();
  } catch (error) {
    complain(error);
  } finally {
    find("generate").disabled = false;
  }
}

function follow(id) {
  if (stream) stream.close();
  followed = id;
  find("result").hidden = false;
  find("preview").hidden = true;
  find("preview").removeAttribute("src");
  find("pictures").replaceChildren();
  find("progress").hidden = find("cancel").hidden = false;
  find("progress").value = 0;
  say("Waiting");
  stream = new EventSource(`/v1/jobs/${encodeURIComponent(id)}/stream?previews=true`);
  for (const [kind, react] of Object.entries(REACTIONS)) {
    stream.addEventListener(kind, (event) => react(JSON.parse(event.data).data));
  }
}

function say(text) {
  find("state").textContent = text;
}

function end(text) {
  stream.close();
  find("progress").hidden = find("cancel").hidden = find("preview").hidden = true;
  say(text);
  showHistory();
}

const REACTIONS = {
  queued: (data) => say(data.position > 1 ? `Waiting, number ${data.position} in the queue` : "Waiting"),
  started: () => say("Started"),
  loading: (data) => say(`Loading ${data.component}`),
  step: (data) => {
    find("progress").value = data.step / data.steps;
    const left = data.eta_s > 1 ? `, ${Math.round(data.eta_s)} s left` : "";
    say(`Step ${data.step} of ${data.steps}${left}`);
  },
  preview: (data) => {
    find("preview").src = `data:${data.media_type};base64,${data.data}`;
    find("preview").hidden = false;
  },
  artifact: (data) => find("pictures").append(picture(data)),
  warning: (data) => complain(new Error(data.message)),
  retry: (data) => say(`Again: ${data.message}`),
  paused: () => say("Paused"),
  succeeded: () => end("Done"),
  failed: (data) => end(`Failed: ${data.message} ${data.hint || ""}`),
  cancelled: () => end("Cancelled"),
};

function picture(artifact) {
  const link = document.createElement("a");
  const image = document.createElement("img");
  link.href = image.src = artifact.url;
  image.alt = `Picture ${artifact.index + 1}, seed ${artifact.seed}`;
  link.append(image);
  return link;
}

async function showHistory() {
  const [{ jobs }, { artifacts }] = await Promise.all([call("/v1/jobs?limit=24"), call("/v1/artifacts?limit=100")]);
  const first = new Map();
  for (const each of artifacts) if (each.index === 0) first.set(each.job_id, each);
  find("history").replaceChildren(...jobs.map((job) => line(job, first.get(job.id))));
  return jobs;
}

function line(job, artifact) {
  const item = document.createElement("li");
  if (artifact) {
    const link = picture(artifact);
    link.firstChild.src = artifact.thumbnail_url;
    link.firstChild.loading = "lazy";
    item.append(link);
  }
  const prompt = document.createElement("div");
  prompt.className = "words";
  prompt.textContent = job.request.prompt || job.operation;
  const state = document.createElement("div");
  state.className = "state";
  state.textContent = `${job.state} · ${new Date(job.created_at * 1000).toLocaleTimeString()}`;
  item.append(prompt, state);
  return item;
}

async function begin() {
  try {
    const { version } = await call("/health");
    find("server").textContent = version;
    await fillMenus();
    recall(find("request"));
    const open = (await showHistory()).filter((job) => !OVER.includes(job.state));
    if (open.length) follow(open[0].id);
  } catch (error) {
    complain(error);
  }
}

find("request").addEventListener("submit", submit);
find("cancel").addEventListener("click", () =>
  call(`/v1/jobs/${encodeURIComponent(followed)}/cancel`, { method: "POST" }).catch(complain));
begin();
