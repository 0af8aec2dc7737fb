"""Settings files and command lines that are refused."""

from bad.home import Case, Home

ALIAS_BOMB = "a: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + n)}: &a{n + 1} [{', '.join([f'*a{n}'] * 9)}]\n" for n in range(9)
)


def file_for_store(home: Home) -> None:
    home.write("file", "")
    home.call("run", home.folder / "s.yaml", "--store", home.folder / "file" / "store")


CASES: dict[str, Case] = {
    "no settings file": (lambda h: h.call("run", h.folder / "no.yaml"), r"no\.yaml does not exist; `hone init FOLDER`"),
    "settings are a folder without any": (
        lambda h: h.call("run", h.folder / "corpus"),
        r"corpus holds no domains; write one YAML file for each",
    ),
    "settings are not YAML": (
        lambda h: h.write("s.yaml", "name: r\nprepare: [\n"),
        r"s\.yaml, line 3 is not valid YAML",
    ),
    "settings hold a NUL": (lambda h: h.write("s.yaml", b"name: \0"), r"s\.yaml is not valid YAML: .*; write it again"),
    "settings not UTF-8": (lambda h: h.write("s.yaml", b"name: \xff"), r"s\.yaml is not UTF-8 \(byte 6\); save it"),
    "settings are empty": (lambda h: h.write("s.yaml", ""), r"s\.yaml holds no settings; write `key: value` lines"),
    "settings nest too deep": (
        lambda h: h.write("s.yaml", "a: " + "[" * 9_999),
        r"s\.yaml is not valid YAML: .*recurs",
    ),
    "a key twice": (lambda h: h.write("s.yaml", "name: r\nname: s\n"), r"line 2 .*: the key 'name' is there twice"),
    "an unknown setting": (lambda h: h.settings(mine={"top": 3}), r"mine\.top: unknown setting; did you mean top_k\?"),
    "an unknown setting deep inside": (
        lambda h: h.settings(distill={"first": {"loss": {"kl_wait": 1}}}),
        r"s\.yaml: distill\.first\.loss\.kl_wait: unknown setting; did you mean kl_weight\?",
    ),
    "an unknown setting in a list": (
        lambda h: h.settings(teacher={"kind": "fusion", "mixes": [{"lexical_wait": 0.3}]}),
        r"teacher\.mixes\.0\.lexical_wait: unknown setting; did you mean lexical_weight\?",
    ),
    "a setting of the section above": (
        lambda h: h.settings(distill={"first": {"seed": 3}}),
        r"distill\.first\.seed: unknown setting; give it outside of first",
    ),
    "a word where a section belongs": (
        lambda h: h.settings(distill={"first": True}),
        r"s\.yaml: distill\.first: a section of settings belongs here, not True",
    ),
    "an unknown section": (lambda h: h.settings(minne={}), r"minne: unknown setting; did you mean mine\?"),
    "a wrong type": (
        lambda h: h.settings(mine={"top_k": "many"}),
        r"mine\.top_k: must be a whole number, not 'many'; `hone d",
    ),
    "a shared setting of wrong type": (
        lambda h: h.settings(student={"model": "student", "pooling": "most"}),
        r"s\.yaml: student\.pooling: .*not 'most'",
    ),
    "no student": (lambda h: h.settings(student={}), r"s\.yaml: student\.model: has to be set; `hone describe mine`"),
    "a section that is a list": (lambda h: h.settings(mine=[]), r"mine: write the settings of mine as indented"),
    "a number out of range": (
        lambda h: h.settings(prepare={"corpus": "corpus", "max_chars": 0}),
        r"prepare\.max_chars: .*greater than .*, not 0",
    ),
    "a number that is none": (
        lambda h: h.settings(distill={"learning_rate": float("nan")}),
        r"distill\.learning_rate: must be a finite number, not nan",
    ),
    "fewer steps than none": (
        lambda h: h.settings(distill={"first": {"max_steps": -1}}),
        r"distill\.first\.max_steps: must be greater than or equal to 0, not -1",
    ),
    "a seed that nothing can be drawn from": (lambda h: h.settings(seed=-1), r"s\.yaml: seed: must be .* 0, not -1"),
    "half a document": (lambda h: h.settings(mine={"top_k": 1.5}), r"mine\.top_k: must be a whole number, not 1\.5"),
    "yes for a number": (lambda h: h.settings(mine={"top_k": True}), r"mine\.top_k: must be a whole number, not True"),
    "off for a number in a list": (
        lambda h: h.settings(distill={"alphas": [0.5, False]}),
        r"distill\.alphas: must be a number, not \[0\.5, False\]",
    ),
    "yes for a number of a mapping": (
        lambda h: h.settings(generate={"extractive": {"styles": {"span": True}}}),
        r"generate\.extractive\.styles: must be a number",
    ),
    "neither true nor false": (
        lambda h: h.settings(prepare={"corpus": "corpus", "exclude_judged": "maybe"}),
        r"prepare\.exclude_judged: must be true or false, not 'maybe'",
    ),
    "percentiles the wrong way round": (
        lambda h: h.settings(curate={"low_percentile": 60, "high_percentile": 40}),
        r"curate: low_percentile must be below high_percentile",
    ),
    "more words at least than at most": (
        lambda h: h.settings(generate={"min_words": 9, "max_words": 4}),
        r"generate\.max_words: no query is left: min_words is more, not 4",
    ),
    "more words at least than at most by default": (
        lambda h: h.settings(generate={"min_words": 65}),
        r"generate\.max_words: no query is left: min_words is more, not 64",
    ),
    "an unknown preset": (
        lambda h: h.settings(preset="gpu"),
        r"preset: 'gpu' is not a preset; write one of cpu, cpu-long, paper",
    ),
    "no name": (lambda h: h.settings(name="../x"), r"name: give the run a name of letters, digits"),
    "an unknown backend": (
        lambda h: h.settings(teacher={"kind": "oracle"}),
        r"s\.yaml: teacher\.kind: no such teacher; the kinds are .*fusion",
    ),
    "an unknown source of queries": (
        lambda h: h.settings(generate={"sources": ["gpt"]}),
        r"generate\.sources: name each",
    ),
    "settings that would run code": (
        lambda h: h.write("s.yaml", 'name: !!python/object/apply:os.system ["touch x"]'),
        r"s\.yaml, line 1 is not valid YAML: could not determine a constructor",
    ),
    "an alias bomb": (
        lambda h: h.write("s.yaml", ALIAS_BOMB),
        r"s\.yaml, line \d is not valid YAML: its aliases stand for more than 100,000 values; correct the line",
    ),
    "an alias of itself": (
        lambda h: h.write("s.yaml", "name: &a [*a]"),
        r"s\.yaml, line 1 is not valid YAML: .*itself",
    ),
    "a name of 10 KB": (lambda h: h.settings(name="x" * 10_240), r"name: give the run a name .*, 200 at most"),
    "a name with an escape": (lambda h: h.settings(name="%2e%2e"), r"name: give the run a name of letters, digits"),
    "a name with a NUL": (lambda h: h.settings(name="a\0b"), r"name: give the run a name of letters, digits"),
    # the command line
    "an unknown stage": (
        lambda h: h.call("stage", "train", "--config", "{}"),
        r"'train' is not a stage; the stages are",
    ),
    "until an unknown stage": (
        lambda h: setattr(h, "until", "trian"),
        r"'trian' is not a stage; the stages are prepare",
    ),
    "a nonsense shard": (
        lambda h: h.call("stage", "prepare", "--config", h.folder / "s.yaml", "--shard", "4/3"),
        r"--shard '4/3' is not i/n",
    ),
    "a shard of a stage that has none": (
        lambda h: h.call("stage", "prepare", "--config", h.folder / "s.yaml", "--shard", "0/3"),
        r"prepare is not sharded",
    ),
    "settings that are not JSON": (
        lambda h: h.call("stage", "mine", "--config", "{x"),
        r"--config is not valid JSON .*; write an object",
    ),
    "an input that is not there": (
        lambda h: h.call("stage", "mine", "--config", h.folder / "s.yaml", "--input", "docs=prepare/00"),
        r"--input docs=prepare/00: there is no finished docs at prepare/00",
    ),
    "an input outside the store": (
        lambda h: h.call("stage", "mine", "--config", h.folder / "s.yaml", "--input", "docs=../../x"),
        r"is not a valid store key",
    ),
    "no input": (
        lambda h: h.call("stage", "mine", "--config", h.folder / "s.yaml"),
        r"mine reads docs, queries: run the",
    ),
    "an unknown run": (
        lambda h: h.call("search", "r", "wing", "--store", h.folder),
        r"there is no run called 'r' in .*; `hone run` makes",
    ),
    "an empty query": (lambda h: h.call("search", "r", " "), r"the query is empty; type what you would search for"),
    "a store that is not a folder": (
        file_for_store,
        r"cannot write to the store .*: Not a directory; give another --store",
    ),
    "a store of another kind": (
        lambda h: h.call("run", h.folder / "s.yaml", "--store", "gs://x"),
        r"'gs://x' is neither a folder nor s3://",
    ),
    "nothing to look at": (lambda h: h.call("init", h.folder / "no"), r"no does not exist; give the folder or file"),
    "nothing to describe": (lambda h: h.call("describe", "train"), r"'train' is not a stage; the stages are prepare"),
    "damage looked for in an unknown run": (
        lambda h: h.call("store", "verify", "no", "--store", h.store.uri),
        r"there is no run called 'no' in .*; the runs there are r",
    ),
    "a difference to an unknown run": (
        lambda h: h.call("store", "diff", "r", "no", "--store", h.store.uri),
        r"there is no run called 'no'",
    ),
    "repair outside the store": (
        lambda h: h.call("repair", "../r", "--store", h.store.uri),
        r"'\.\./r/manifest.json' is not a valid store key",
    ),
    "an input with an escape": (
        lambda h: h.call("stage", "mine", "--config", h.folder / "s.yaml", "--input", "docs=prepare/%2e%2e"),
        r"'prepare/%2e%2e/manifest.json' is not a valid store key",
    ),
    "an input with a NUL": (
        lambda h: h.call("stage", "mine", "--config", h.folder / "s.yaml", "--input", "docs=prepare/a\0b"),
        r"is not a valid store key",
    ),
    "an input of 10 KB": (
        lambda h: h.call("stage", "mine", "--config", h.folder / "s.yaml", "--input", f"docs={'x' * 10_240}"),
        r"is not a valid store key",
    ),
}
