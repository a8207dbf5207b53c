"""Which URLs and credentials open a store, and what is said about the others."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from imgsyncfs.errors import ConfigurationError
from imgsyncfs.stores.credentials import StoreCredentials
from imgsyncfs.stores.opening import open_store


def test_equal_places_have_equal_urls(tmp_path: Path) -> None:
    file_url = tmp_path.as_uri()
    azure_url = "azure://account/container/some/prefix"
    key = StoreCredentials(account_key="a2V5")

    for other in (file_url + "/", file_url.replace("file:///", "file://localhost/"), file_url.replace("//", "//", 1)):
        assert open_store(other).url == file_url
    for other in (azure_url + "/", "AZURE" + azure_url[5:], azure_url):
        assert open_store(other, credentials=key).url == azure_url
    assert open_store("azure://account/container/", credentials=key).url == "azure://account/container"


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("/data/my store", "write for a local folder file:///data/my%20store."),
        ("store", "no known kind"),
        ("s3://key:SECRET@bucket", "no known kind"),
        ("https://account.blob.core.windows.net/container?sig=SECRET", "azure://ACCOUNT/CONTAINER"),
        ("file:relative", "file:///absolute/path"),
        ("file://server/path", "file:///absolute/path"),
        ("file:///a%00b", "NUL"),
        ("azure://", "no storage account"),
        ("azure://Account/container", "no storage account"),
        ("azure://account", "no container"),
        ("azure://account/c", "no container"),
        ("azure://account/Container", "no container"),
        ("azure://account/con--tainer", "no container"),
        ("azure://account/container/../x", "impossible prefix"),
        ("azure://account/container?sig=SECRET", "AZURE_STORAGE_SAS_TOKEN"),
        ("azure://account:SECRET@host/container", "AZURE_STORAGE_SAS_TOKEN"),
    ],
)
def test_a_store_url_that_makes_no_sense_is_refused_with_a_hint(url: str, hint: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        open_store(url, credentials=StoreCredentials(account_key="a2V5"))

    assert hint in str(caught.value)
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize(
    ("given_credentials", "hint"),
    [
        (StoreCredentials(connection_string="nonsense-SECRET"), "malformed"),
        (StoreCredentials(connection_string="AccountName=account"), "neither AccountKey nor SharedAccessSignature"),
        (StoreCredentials(connection_string="AccountName=other;AccountKey=a2V5"), "is for 'other'"),
        (StoreCredentials(connection_string="AccountName=accountAccountKey=SECRET;AccountKey=a2V5"), "is for another;"),
        (StoreCredentials(connection_string="AccountName=[;AccountKey=a2V5"), "is for another;"),
        (StoreCredentials(connection_string="BlobEndpoint=https://[;AccountKey=a2V5"), "no plain URL"),
        (StoreCredentials(sas_token="sig=SECRET", endpoint="https://host:99999999/"), "no plain URL"),
        (
            StoreCredentials(
                connection_string="BlobEndpoint=https://other.blob.core.windows.net/;SharedAccessSignature=sig=SECRET"
            ),
            "is for 'other'",
        ),
        (StoreCredentials(connection_string="UseDevelopmentStorage=true"), "is for 'devstoreaccount1'"),
        (StoreCredentials(account_key="SECRET!"), "no base64"),
        (StoreCredentials(sas_token="sig=SECRET", endpoint="account.blob.core.windows.net"), "no plain URL"),
        (StoreCredentials(sas_token="sig=SECRET", endpoint="https://host/?sig=SECRET"), "no plain URL"),
        (StoreCredentials(sas_token="sig=SECRET", endpoint="https://user:SECRET@host/"), "no plain URL"),
    ],
)
def test_credentials_that_make_no_sense_are_refused_with_a_hint(given_credentials: StoreCredentials, hint: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        open_store("azure://account/container", credentials=given_credentials)

    assert hint in str(caught.value)
    assert "SECRET" not in str(caught.value)


def test_credentials_do_not_show_themselves() -> None:
    shown = repr(StoreCredentials("AccountKey=SECRET", "SECRET", "sig=SECRET", "https://SECRET"))

    assert "SECRET" not in shown


def test_without_a_key_the_package_for_entra_id_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "azure.identity", None)

    with pytest.raises(ConfigurationError, match=r"set AZURE_.*pip install 'imgsyncfs\[azure-identity\]'"):
        open_store("azure://account/container")


def test_the_azure_sdk_is_not_imported_for_a_local_store(tmp_path: Path) -> None:
    program = (
        "import sys; from imgsyncfs.stores.opening import open_store; open_store(sys.argv[1]).check(); "
        "sys.exit('azure.core' in sys.modules)"
    )

    subprocess.run([sys.executable, "-c", program, tmp_path.as_uri()], check=True, timeout=60)
