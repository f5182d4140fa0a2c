// The order of what the search finds: pages and sections whose heading has all the words, then pages
// and terms of the glossary, then members of the package. (Sphinx lists members first, and a section
// only if the query is half of its heading. Its results are shown from the last to the first.)

const perform = Search._performSearch;

function headed(terms) {
  const { alltitles, docnames, filenames, titles } = Search._index;
  const stemmer = new Stemmer();
  const found = [];
  for (const [title, places] of Object.entries(alltitles)) {
    const words = splitQuery(title.toLowerCase()).map((word) => stemmer.stemWord(word));
    if (![...terms].every((term) => words.includes(term))) continue;
    for (const [file, id] of places) {
      const name = id ? `${titles[file]} > ${title}` : titles[file];
      // A page's own title first, then chapters, then the shorter heading.
      const rank = words.length + 100 * Boolean(id) + 50 * !docnames[file].startsWith("notebooks/");
      found.push([docnames[file], name, id ? `#${id}` : "", null, -rank, filenames[file]]);
    }
  }
  return terms.size ? found.sort((a, b) => a[4] - b[4]) : [];
}

Search._performSearch = (query, terms, ...others) => {
  const { docnames, objects, objnames } = Search._index;
  const members = Object.values(objects).flat().filter(([, kind]) => objnames[kind][0] === "py");
  const reference = new Set(members.map(([file]) => docnames[file]));
  const first = headed(terms);
  const place = ([page, , anchor]) => page + anchor;
  const known = new Set(first.map(place));
  const rest = perform(query, terms, ...others)
    .reverse()
    // A term of the glossary comes twice, as an entry of the index and by its name.
    .sort((a, b) => Boolean(b[3]) - Boolean(a[3]) || b[4] - a[4])
    .filter((result) => !known.has(place(result)) && known.add(place(result)))
    .sort((a, b) => b[4] - a[4])
    .reverse();
  const all = [...rest, ...first];
  const inReference = ([page]) => reference.has(page);
  return [...all.filter(inReference), ...all.filter((result) => !inReference(result))];
};
