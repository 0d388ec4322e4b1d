// The API as a page, out of openapi.json.

const main = document.getElementById("routes");

function made(tag, text = "", ...children) {
  const element = document.createElement(tag);
  element.append(...(text ? [text] : []), ...children);
  return element;
}

const typeOf = (schema) => schema.anyOf ? schema.anyOf.map(typeOf).join(" or ") : schema.$ref ? schema.$ref.split("/").pop()
  : schema.const !== undefined ? JSON.stringify(schema.const) : schema.enum ? schema.enum.map((value) => JSON.stringify(value)).join(" or ")
  : schema.type === "array" ? `list of ${typeOf(schema.items ?? {})}` : schema.type ?? "any";

function fields(schema) {
  const table = made("table", "", made("thead", "", made("tr", "", ...["Field", "Type"].map((name) => {
    const cell = made("th", name);
    cell.scope = "col";
    return cell;
  }))));
  const body = made("tbody");
  for (const [name, field] of Object.entries(schema.properties ?? {})) {
    body.append(made("tr", "", made("td", "", made("code", name)), made("td", typeOf(field))));
  }
  table.append(body);
  return table;
}

const answer = await fetch("openapi.json");
const api = await answer.json();
main.replaceChildren(made("p", api.info.description));
for (const [path, methods] of Object.entries(api.paths)) {
  for (const [method, route] of Object.entries(methods)) {
    const section = made("section", "", made("h2", "", made("code", `${method.toUpperCase()} ${path}`)), made("p", route.summary ?? ""));
    for (const [type, body] of Object.entries(route.requestBody?.content ?? {})) {
      section.append(made("p", `Body: ${type}`), fields(body.schema));
    }
    main.append(section);
  }
}
