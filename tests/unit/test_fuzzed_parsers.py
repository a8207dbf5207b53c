"""Whatever is read from elsewhere gives what it says, or the documented error, in time: no crash, and nothing else.

``IMGSYNCFS_FUZZ_EXAMPLES=20000 scripts/test tests/unit/test_fuzzed_parsers.py --timeout=0`` tries as many documents for
each parser.
"""

from __future__ import annotations

import importlib
import io
import shutil
import tempfile
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.modelled_catalog import DATASETS, annotation_content, image_content, open_modelled_catalog
from support.mutations import fuzzed, mutated, mutated_texts, within_time

from imgsyncfs.annotations.house_format import dump_annotation, parse_annotation
from imgsyncfs.annotations.splits import make_rule
from imgsyncfs.catalog.conditions import parse_condition
from imgsyncfs.catalog.listing import Listing, load_listing, numbered, read_listing, save_listing
from imgsyncfs.catalog.url import catalog_identity, parse_catalog_url
from imgsyncfs.errors import AnnotationError, ConfigurationError, ListingDamaged
from imgsyncfs.formats.contract import ImageInfo
from imgsyncfs.formats.dataset_documents.contract import DatasetDocument, DocumentEntry, LossTally
from imgsyncfs.formats.registry import FORMATS, NUMBERED_FORMATS, FormatDescription, recognize_format
from imgsyncfs.settings.limits import parse_share
from imgsyncfs.settings.values import parse_seconds, parse_size
from imgsyncfs.stores.allowed import allowed_stores
from imgsyncfs.stores.azure.account import find_account
from imgsyncfs.stores.credentials import StoreCredentials
from imgsyncfs.stores.urls import parse_azure_account, parse_azure_url, parse_file_url
from imgsyncfs.workers.frames import read_frame, write_frame
from imgsyncfs.workers.messages import connected_pair, receive, send

CLASSES = ("person", "face", "人 & <car>")
IMAGE = ImageInfo("original_20260101_rgb_bbox", "a", "jpg", 48, 64, 3, 6, classes=CLASSES)

SAMPLES = Path(__file__).parent.parent / "support" / "samples" / "to_be_mutated"


def samples(pattern: str) -> list[bytes]:
    """Valid documents, most of them as other tools write them."""
    return [path.read_bytes() for path in sorted(SAMPLES.glob(pattern))]


HOUSE = samples("house_*.json")
FOREIGN = {
    "labelme": samples("labelme.json"),
    "xanylabeling": samples("labelme.json"),
    "rolabelimg": samples("rolabelimg.xml"),
    "voc": samples("rolabelimg.xml"),
    "dota": samples("dota.txt"),
    **dict.fromkeys(NUMBERED_FORMATS, samples("yolo_*.txt")),
}
DOCUMENTS = {
    "imgsyncfs.formats.dataset_documents.coco:CocoDocument": samples("coco.json"),
    "imgsyncfs.formats.dataset_documents.cvat:CvatDocument": samples("cvat.xml"),
    "imgsyncfs.formats.dataset_documents.hugging_face:HuggingFaceDocument": samples("metadata.jsonl"),
}
FORMATS_READ = {name: known for name, known in {**FORMATS, **NUMBERED_FORMATS}.items() if name in FOREIGN}


@cache
def files_of(name: str) -> list[bytes]:
    """Files of a format: those that are rendered here, with and without what is embedded, and other tools'."""
    rendered = [FORMATS_READ[name].render(parse_annotation(house), IMAGE).content for house in HOUSE]
    return [*rendered, *FOREIGN[name]]


@given(content=mutated(HOUSE))
@fuzzed
def test_a_house_annotation_parses_and_can_be_written_again_or_is_refused_with_the_reason(content: bytes) -> None:
    with within_time(), suppress(AnnotationError):
        annotation = parse_annotation(content)
        assert parse_annotation(dump_annotation(annotation)) == annotation


@pytest.mark.parametrize("name", sorted(FORMATS))
@given(content=mutated(HOUSE))
@fuzzed
def test_an_annotation_that_parses_is_rendered_or_refused_with_the_reason(name: str, content: bytes) -> None:
    with within_time(), suppress(AnnotationError):
        annotation = parse_annotation(content)
        FORMATS[name].render(annotation, IMAGE)


@pytest.mark.parametrize("name", sorted(FORMATS_READ))
@given(data=st.data())
@fuzzed
def test_a_file_of_a_tool_gives_an_annotation_that_can_be_kept_or_is_refused_with_the_reason(
    name: str, data: st.DataObject
) -> None:
    content = data.draw(mutated(files_of(name)))
    known = FORMATS_READ[name]
    with within_time():
        recognize_format(content, file_name=f"a{known.suffix}")
        for image in (None, IMAGE, replace(IMAGE, height=None, width=None)):
            with suppress(AnnotationError):
                read_and_kept(known, content, image)


def read_and_kept(known: FormatDescription, content: bytes, image: ImageInfo | None) -> None:
    """Read a file in all ways that there are, and write what it says as publishing does."""
    annotation = known.read(content, image=image).annotation
    assert parse_annotation(dump_annotation(annotation)) == annotation
    known.image_reference(content)
    known.reattached(content, parse_annotation(HOUSE[0]), IMAGE)


@pytest.mark.parametrize("place", sorted(DOCUMENTS))
@given(data=st.data())
@fuzzed
def test_a_document_about_a_dataset_gives_annotations_that_can_be_kept_or_is_refused_with_the_reason(
    place: str, data: st.DataObject
) -> None:
    module, _, attribute = place.partition(":")
    document: DatasetDocument = getattr(importlib.import_module(module), attribute)()
    entries = [DocumentEntry(IMAGE, "train", parse_annotation(house)) for house in HOUSE]
    own = b"".join(document.chunks(entries, CLASSES, LossTally()))
    content = data.draw(mutated([own, *DOCUMENTS[place]]))
    with within_time(), suppress(AnnotationError):
        for found in document.read(content):
            annotation = found.reading.annotation
            assert parse_annotation(dump_annotation(annotation)) == annotation


# Words of what users and catalogs write.

CATALOG_URLS = (
    "sqlite:///tmp/catalog.db",
    "mssql://user@server:1433/database?Encrypt=yes&TrustServerCertificate=no",
    "postgresql://user@[::1]:5432/database?SSLmode=verify-full&host=/run/postgresql",
    "odbc:Driver={ODBC Driver 18};Server=tcp:server,1433;Database=catalog;Uid=user",
    "catalog.db",
    "~nobody-here/catalog.db",
)
STORE_URLS = (
    "file:///data/images%20of%202026",
    "file://localhost/data",
    "azure://account/container/prefix/more",
    "azure://account",
)
CONDITIONS = ("class=person", "objects>3", "date>=2026-01-01", "Gender!=Female", "bytes<=1000", "image_type=fisheye360")
RULES = ("80/10/10", "0/0/1", r"(.*)_\d+", "1/2/3", r"([a-z]+)+$")
SIZES = ("20%", "10 GB", "1.5GiB", "5000", "30s", "1.5", "0.25 TB", "1e3")
CONNECTION_STRINGS = (
    "DefaultEndpointsProtocol=https;AccountName=account;AccountKey=a2V5;EndpointSuffix=core.windows.net",
    "BlobEndpoint=http://127.0.0.1:10000/account;SharedAccessSignature=sv=2024&sig=abc%3D",
    "UseDevelopmentStorage=true",
)


@given(text=mutated_texts(CATALOG_URLS))
@fuzzed
def test_a_catalog_url_is_read_or_refused_with_the_reason(text: str) -> None:
    with within_time(), suppress(ConfigurationError):
        parsed = parse_catalog_url(text)
        assert catalog_identity(text) == parsed.identity
        assert parse_catalog_url(parsed.identity).identity == parsed.identity


@given(text=mutated_texts(STORE_URLS))
@fuzzed
def test_a_store_url_is_read_or_refused_with_the_reason(text: str) -> None:
    with within_time():
        for read in (parse_file_url, parse_azure_url, parse_azure_account, lambda url: allowed_stores(url, (url,))):
            with suppress(ConfigurationError):
                read(text)


@given(text=mutated_texts(CONNECTION_STRINGS))
@fuzzed
def test_a_connection_string_is_read_or_refused_without_showing_its_key(text: str) -> None:
    location = parse_azure_url("azure://account/container")
    with within_time():
        try:
            find_account(location, StoreCredentials(connection_string=text), timeout=1.0)
        except ConfigurationError as error:
            message = str(error)
        else:
            message = ""
    assert "a2V5" not in message
    assert "abc%3D" not in message


@given(text=mutated_texts(CONDITIONS))
@fuzzed
def test_a_condition_is_read_or_refused_with_the_reason(text: str) -> None:
    with within_time(), suppress(ConfigurationError):
        condition = parse_condition(text)
        assert parse_condition(str(condition)) == condition


@given(weights=mutated_texts(RULES), group_by=mutated_texts(RULES))
@fuzzed
def test_a_split_rule_is_read_or_refused_with_the_reason(weights: str, group_by: str) -> None:
    for each in (weights, "80/10/10"):
        with within_time(), suppress(ConfigurationError):
            make_rule(each, group_by)


@given(text=mutated_texts(SIZES))
@fuzzed
def test_a_size_and_a_time_are_read_or_refused_with_the_reason(text: str) -> None:
    with within_time():
        for read in (
            parse_size,
            lambda said: parse_share(said, total=1 << 40),
            lambda said: parse_seconds(said, option="x"),
        ):
            with suppress(ConfigurationError):
                read(text)


@given(
    header=st.dictionaries(st.text(max_size=4), st.integers(0, 9)),
    payload=st.binary(max_size=20),
    cut=st.integers(0, 80),
)
@fuzzed
def test_a_frame_that_is_cut_short_is_the_end_and_a_whole_one_comes_as_it_was_sent(
    header: dict[str, int], payload: bytes, cut: int
) -> None:
    stream = io.BytesIO()
    write_frame(stream, header, payload)
    content = stream.getvalue()
    found = read_frame(io.BytesIO(content[:cut]))
    assert found == ((header, payload) if cut >= len(content) else None)


def valid_frame() -> bytes:
    stream = io.BytesIO()
    write_frame(stream, {"id": 7, "result": {"path": "x"}}, b"payload")
    return stream.getvalue()


@given(content=mutated([valid_frame()]) | st.binary(max_size=64))
@fuzzed
def test_what_comes_as_a_frame_is_one_or_the_end_or_refused(content: bytes) -> None:
    stream = io.BytesIO(content)
    with within_time(), suppress(ValueError):
        while (frame := read_frame(stream)) is not None:
            header, payload = frame
            assert (type(header), type(payload)) == (dict, bytes)


def sent(header: dict[str, object], payload: bytes) -> bytes:
    """What a message looks like on its way."""
    ours, theirs = connected_pair()
    with ours, theirs:
        send(ours, header, payload)
        return theirs.recv(1 << 16)


@given(content=mutated([sent({"barrier": 7}, b"payload")]) | st.binary(max_size=64))
@fuzzed
def test_what_comes_as_a_message_is_one_or_the_end_or_refused(content: bytes) -> None:
    ours, theirs = connected_pair()
    with ours, theirs, within_time(), suppress(ValueError):
        ours.send(content)
        message = receive(theirs)
        assert message is None or (type(message.header), type(message.payload)) == (dict, bytes)


# Saved listings.


@pytest.fixture(scope="module")
def saved_listing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved listing with packs, loose and large files, and annotations."""
    modelled = open_modelled_catalog(tmp_path_factory.mktemp("listing") / "place")
    files = {f"img_{number:05d}.jpg": image_content(number) for number in range(32)}
    annotations = {f"img_{number:05d}.json": annotation_content(number) for number in range(0, 32, 2)}
    modelled.publish(DATASETS[0], {**files, **annotations}, packed=True)
    listing = read_listing(modelled.catalog, DATASETS[0])
    assert listing is not None
    save_listing(numbered(listing, None), modelled.folder / "saved")
    modelled.catalog.close()
    return modelled.folder / "saved"


def shown_by(listing: Listing) -> list[object]:
    """All that a listing says of its files."""
    said: list[object] = [listing.key, listing.dataset_id, listing.facts, [*listing.hidden], [*listing.stores]]
    for index in range(len(listing)):
        said += [listing.stem(index), listing.ext(index), listing.image_info(index), listing.images.record(index)]
        said += [listing.orientation(index), listing.has_annotation(index), listing.store_of(index)]
        if listing.has_annotation(index):
            said.append(listing.annotations.record(index))
    return [*said, {name: column.tolist() for name, column in listing.columns.items()}]


@given(data=st.data(), file=st.sampled_from(["meta.json", "columns.npy"]))
@fuzzed
def test_a_saved_listing_that_is_not_what_was_saved_is_refused_and_never_shown(
    saved_listing: Path, data: st.DataObject, file: str
) -> None:
    content = data.draw(mutated([(saved_listing / file).read_bytes()]))
    folder = Path(tempfile.mkdtemp())
    try:
        shutil.copytree(saved_listing, folder, dirs_exist_ok=True)
        (folder / file).write_bytes(content)
        with within_time(), suppress(ListingDamaged):
            assert shown_by(load_listing(folder)) == shown_by(load_listing(saved_listing))
    finally:
        shutil.rmtree(folder)
