"""Load a configuration: folders to a catalog, or to every finding at once.

Theory of operation. Four passes, each going on after mistakes:
1. every file becomes nodes with positions (bus.config.nodes), every document gets its kind;
2. integration and agents documents fill the namespace: types, capabilities, agents, values; names are checked
   against it when it is complete, because files may be in any order;
3. routes are compiled against the namespace: expressions and values are checked in the scope of their place;
4. what only the whole can show: owners, unreachable routes, events that nobody wants.
`bus lint` and `bus run` both call `load` and nothing else, so lint finds whatever run would refuse.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bus.config.agents import AgentsReader, check_agents
from bus.config.assets import Assets
from bus.config.bundle import Bundle
from bus.config.declared import DeclaredCapability, DeclaredType, Document, Integration, Namespace
from bus.config.files import TESTS, Files, Folder, discover, shown, sibling
from bus.config.finding import ConfigFinding, Findings, has_errors
from bus.config.fragments import FragmentReader
from bus.config.gateways import check_gateways, gateway_agent
from bus.config.integrations import IntegrationReader, check_uses
from bus.config.nodes import MAX_BYTES, Node, Scalar, parse
from bus.config.nodes import Mapping as MappingNode
from bus.config.ownership import check_owners
from bus.config.patterns import TypeNames
from bus.config.published import check_published
from bus.config.reader import NAME, Reader, described
from bus.config.route_tests import RouteTestReader
from bus.config.routes import RouteReader, gather_matches
from bus.config.schedules import check_schedules
from bus.config.secrets import Secrets
from bus.config.suggest import instead_of, nearest
from bus.config.targets import check_wanted
from bus.config.watch import Watch
from bus.config.yamlfaults import clip
from bus.core.identity import CLIENT, GATEWAY
from bus.core.outputs import BUS
from bus.core.route import Capability, Catalog, MessageType, Older, Route
from bus.core.spec import Spec
from bus.rehearsal.coverage import Coverage
from bus.rehearsal.script import RouteTest

KINDS = ("integration", "agents", "capabilities", "route", "fragment")
LATER_KINDS = ("process",)


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a load gives.

    Args:
        catalog: the compiled configuration; None when a finding is an error.
        findings: all findings, by file, line and column.
        files: every file that was read, sorted: documents, schemas, templates.
        tests: the tests of the folders that were named, those without findings.
        named: the integrations in these folders, with the coverage that each wants: percent by unit.
        bundle: all that makes the catalog what it is, to compile it again elsewhere.
    """

    catalog: Catalog | None
    findings: tuple[ConfigFinding, ...]
    files: tuple[Path, ...]
    bundle: Bundle = field(default_factory=Bundle)
    tests: tuple[RouteTest, ...] = ()
    named: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


def load(
    folders: Sequence[Path],
    environment: Mapping[str, str],
    steps: Mapping[str, Spec],
    *,
    watch: Watch | None = None,
    tests: bool = False,
    coverage: Coverage | None = None,
    secrets: bool = True,
    published: Sequence[Path] | None = None,
) -> Loaded:
    """Load integrations.

    Args:
        folders: each an integration, or a folder of integrations; those that they use and that stand beside them are
            loaded too.
        environment: variables for `${VAR}` and `env`.
        steps: the table of steps.
        watch: notes down what the compiled expressions do.
        tests: read the tests too. What a bus runs on does not hang on them.
        coverage: notes what of the catalog runs; for tests only.
        secrets: they are needed; not where no agent is run.
        published: the same as they were published, to hold these against; whatever else is wrong there is not reported.
    """
    loader = _loader(environment, steps, watch, tests, coverage, secrets)
    routes = loader.run([_plain(folder) for folder in folders])
    if published is not None:
        before = _loader(environment, steps)
        before.run([_plain(folder) for folder in published])
        check_published(loader.namespace, before.namespace, loader.reader)
    found = loader.reader.findings.sorted()
    catalog = None if has_errors(found) else loader.catalog(routes)
    bundle = Bundle(loader.files.contents, loader.secrets.configuration)
    named = {each.name: each.coverage for each in loader.namespace.integrations.values() if each.name in loader.named}
    return Loaded(catalog, found, loader.files.paths, bundle, tuple(loader.tests), named)


def _loader(
    environment: Mapping[str, str],
    steps: Mapping[str, Spec],
    watch: Watch | None = None,
    tests: bool = False,
    coverage: Coverage | None = None,
    secrets: bool = True,
) -> _Loader:
    reader, files = Reader(Findings()), Files()
    assets, filled = Assets(reader, files), Secrets(reader, environment, secrets)
    return _Loader(reader, files, assets, filled, steps, watch, tests, coverage)


def _plain(path: Path) -> Path:
    return Path(shown(path))


@dataclass(slots=True)
class _Loader:
    """One load. Its methods are the passes, in order."""

    reader: Reader
    files: Files
    assets: Assets
    secrets: Secrets
    steps: Mapping[str, Spec]
    watch: Watch | None
    with_tests: bool
    coverage: Coverage | None
    tests: list[RouteTest] = field(default_factory=list)
    named: set[str] = field(default_factory=set)
    namespace: Namespace = field(default_factory=Namespace)
    documents: list[Document] = field(default_factory=list)

    def run(self, folders: Sequence[Path]) -> tuple[Route, ...]:
        integrations = IntegrationReader(self.reader, self.assets, self.secrets, self.namespace)
        found, empty = discover(folders)
        for path in empty:
            what = "there is no integration here: no `*.yaml` file in the folder or in those below it"
            self.reader.findings.add(ConfigFinding(str(path), 1, 1, "missing-folder", what, "a folder of integrations"))
        self.named = {folder.root.name for folder in found}
        waiting = list(found)
        seen = {folder.root for folder in waiting}
        while waiting:
            folder = waiting.pop(0)
            self._read_folder(folder)
            self._declare_integration(folder, integrations)
            for node, _ in integrations.uses:
                used = sibling(folder, node.text) if NAME.fullmatch(node.text) else None
                if used is not None and used.root not in seen:
                    seen.add(used.root)
                    waiting.append(used)
        self._declare_agents()
        check_uses(self.reader, integrations.uses, self.namespace)
        check_agents(self.namespace, self.reader)
        routes = self._compile()
        for folder in found if self.with_tests else ():
            self._read_tests(folder)
        return routes

    def _read_folder(self, folder: Folder) -> None:
        """Pass 1 for one folder."""
        for path in folder.files:
            self._read_file(path, folder)

    def _read_tests(self, folder: Folder) -> None:
        """The tests of one folder, when everything is declared that they may name."""
        reader = RouteTestReader(self.reader, self.assets, self.namespace, TypeNames(self.namespace.type_names()))
        integration = self.namespace.integrations[folder.root.name]
        for path in folder.tests:
            try:
                parsed = parse(str(path), path.read_bytes())
            except OSError as error:
                self._unreadable(path, error)
                continue
            self.reader.findings.extend(parsed.findings)
            for node in parsed.documents:
                if isinstance(node, MappingNode) and node.pairs and node.pairs[0][0].text == "tests":
                    self.tests += reader.read(Document("tests", node, folder, integration.name), integration)
                else:
                    what = f"a file that ends in {TESTS} has tests, and nothing else"
                    self.reader.report(node, "unknown-kind", what, "`tests: [...]`, or another name for the file")

    def _read_file(self, path: Path, folder: Folder) -> None:
        try:
            # A file beyond the cap is not read into memory; one byte more than the cap is enough to tell.
            data = self.files.read(path, folder, MAX_BYTES + 1)
        except OSError as error:
            self._unreadable(path, error)
            return
        parsed = parse(str(path), data)
        self.reader.findings.extend(parsed.findings)
        self.namespace.unread |= set(parsed.broken)
        for node in parsed.documents:
            document = self._document(node, folder)
            if document is not None:
                self.documents.append(document)

    def _unreadable(self, path: Path, error: OSError) -> None:
        what = f"the file cannot be read: {error.strerror}"
        self.reader.findings.add(ConfigFinding(str(path), 1, 1, "missing-file", what, "a readable file"))

    def _document(self, node: Node, folder: Folder) -> Document | None:
        """A document with its kind, which its first key says."""
        if not isinstance(node, MappingNode):
            if not (isinstance(node, Scalar) and node.broken):
                what = f"a document is a mapping, got {described(node)}"
                self.reader.report(node, "unknown-kind", what, "`route: NAME`")
            return None
        if not node.pairs:
            self.reader.report(node, "unknown-kind", "the document is empty", instead_of("", KINDS))
            return None
        key = node.pairs[0][0]
        if key.text in KINDS:
            kind = "agents" if key.text == "capabilities" else key.text
            return Document(kind, node, folder, folder.root.name)
        if key.text == "tests":
            self.reader.report(key, "unknown-kind", "tests stand in files of their own", f"it into a `NAME{TESTS}`")
            return None
        later = next((each for each, _ in node.pairs if each.text in KINDS), None)
        if key.text in LATER_KINDS:
            what = f"documents of the kind `{key.text}` are not in this version"
            self.reader.report(key, "unknown-kind", what, instead_of("", KINDS))
        elif later is not None and nearest(key.text, KINDS) is None:
            what = f"the first key says the kind of a document, and `{clip(key.text)}` is none"
            self.reader.report(key, "unknown-kind", what, f"`{later.text}` first")
        else:
            self.reader.report(key, "unknown-kind", f"there is no kind `{clip(key.text)}`", instead_of(key.text, KINDS))
        self.namespace.unread.add(nearest(key.text, KINDS) or "")
        return None

    def _declare_integration(self, folder: Folder, reader: IntegrationReader) -> None:
        """Pass 2, integrations: the folder's name is the integration's."""
        name = folder.root.name
        integration = Integration(name, folder)
        other = self.namespace.integrations.get(name)
        if other is not None:
            what = f"{other.folder.path} is an integration `{name}` too"
            found = ConfigFinding(str(folder.path), 1, 1, "duplicate-name", what, "another folder name")
            self.reader.findings.add(found)
            return
        self.namespace.integrations[name] = integration
        for document in self.documents:
            if document.kind == "integration" and document.folder is folder:
                self._named(document, name)
                reader.read(document, integration)

    def _named(self, document: Document, name: str) -> None:
        node = document.node.get("integration")
        text = None if node is None else self.reader.name(node, "integration")
        if node is not None and text is not None and text != name:
            what = f"the integration `{text}` stands in the folder `{name}`"
            self.reader.report(node, "bad-name", what, f"`{name}`, or rename the folder")

    def _declare_agents(self) -> None:
        """Pass 2, agents and capabilities."""
        agents = AgentsReader(self.reader, self.assets, self.secrets, self.namespace)
        for document in self.documents:
            if document.kind == "agents":
                agents.read(document)

    def _compile(self) -> tuple[Route, ...]:
        """Passes 3 and 4."""
        fragments = FragmentReader(self.reader, self.assets, self.namespace)
        for document in self.documents:
            if document.kind == "fragment":
                fragments.declare(document)
        documents = tuple(each for each in self.documents if each.kind == "route")
        gather_matches(documents, self.namespace)
        known = TypeNames(self.namespace.type_names())
        compiler = RouteReader(
            self.reader, self.assets, self.namespace, self.steps, known, self.watch, coverage=self.coverage
        )
        routes: list[Route] = []
        for document in documents:
            route = compiler.read(document, self.namespace.integrations[document.integration])
            if route is not None:
                routes.append(route)
        for fragment in self.namespace.fragments.values():
            compiler.fragment(fragment)
        for integration in self.namespace.integrations.values():
            compiler.defaults(integration)
        flows = (each for each in self.documents if each.kind in ("route", "process"))
        check_gateways(self.namespace, flows, known, self.reader)
        compiler.published.extend(check_schedules(self.namespace, known, self.reader))
        check_wanted(self.namespace, compiler.published, self.reader)
        check_owners(compiler.claims, known, (*self.namespace.agents, CLIENT, GATEWAY, BUS), self.reader)
        return tuple(routes)

    def catalog(self, routes: tuple[Route, ...]) -> Catalog:
        """The catalog of a configuration without errors."""
        entrances = tuple(each.entrance for each in self.namespace.entrances)
        return Catalog(
            version=self.files.version(self.secrets.configuration),
            agents={**{name: each.agent for name, each in self.namespace.agents.items()}, **gateway_agent(entrances)},
            capabilities={
                name: capability
                for name, each in self.namespace.capabilities.items()
                if (capability := _capability(name, each)) is not None
            },
            types={name: _type(name, each) for name, each in self.namespace.types.items()},
            routes=routes,
            entrances=entrances,
            schedules=tuple(each.schedule for each in self.namespace.schedules),
            labels={name: each.requires for name, each in self.namespace.labels.items() if each.requires},
            controls=frozenset(self.namespace.controls),
        )


def _type(name: str, declared: DeclaredType) -> MessageType:
    older = tuple(Older(each.contract, each.upcast) for each in declared.versions[:-1])
    return MessageType(name, declared.contract, declared.unrouted, older)


def _capability(name: str, declared: DeclaredCapability) -> Capability | None:
    if declared.request is None or declared.reply is None:
        return None  # has findings, so there is no catalog
    return Capability(name, declared.request, declared.reply, declared.idempotent, declared.lease_s)
