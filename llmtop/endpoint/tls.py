"""TLS: whom the endpoint is asked to trust, who is trusted there, and what each failure means, in words."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import certifi

from llmtop.domain.endpoint import Endpoint
from llmtop.domain.plain import plain
from llmtop.errors import UsageError

CA_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR")
"""As OpenSSL's own tools read them, in place of the usual authorities."""
_SHOWN = 120
"""Letters of a path, or of what OpenSSL says, that are shown."""
_ONE_PIECE = "in PEM: from -----BEGIN to -----END"


def context_for(endpoint: Endpoint) -> ssl.SSLContext:
    """What TLS is spoken with, by load, probe and scrapes alike. Raises UsageError, which names the file.

    Made by hand: `ssl.create_default_context` opens what SSLKEYLOGFILE names, and fails where that cannot be.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if endpoint.ca_file is not None:
        _trust(context, "--ca-file", endpoint.ca_file)
    elif not endpoint.insecure:
        _trust_the_usual(context)
    if endpoint.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if endpoint.client_cert is not None:
        _show_certificate(context, endpoint.client_cert, endpoint.client_key)
    elif endpoint.client_key is not None:
        raise UsageError(f"--client-key {plain(endpoint.client_key, _SHOWN)}: name its certificate with --client-cert")
    context.set_alpn_protocols(["http/1.1"])
    return context


def _trust_the_usual(context: ssl.SSLContext) -> None:
    named = next(((name, os.environ[name]) for name in CA_VARIABLES if os.environ.get(name)), None)
    _trust(context, *(named or ("certifi", certifi.where())))


def _trust(context: ssl.SSLContext, option: str, path: str) -> None:
    """Trust the authorities in a file, or in a folder of files that are named by their hashes."""
    try:
        if Path(path).is_dir():
            context.load_verify_locations(capath=path)
        else:
            _open(option, path)
            context.load_verify_locations(cafile=path)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{option} {plain(path, _SHOWN)}: has no certificate of a CA ({_said(error)}); give one {_ONE_PIECE}"
        ) from None


def _show_certificate(context: ssl.SSLContext, cert: str, key: str | None) -> None:
    """Show a certificate to servers that ask for one. A key with a password is refused: nobody is asked for it."""
    _open("--client-cert", cert)
    if key is not None:
        _open("--client-key", key)
    shown = f"--client-{'cert' if key is None else 'key'} {plain(key or cert, _SHOWN)}"
    encrypted = False

    def no_password() -> bytes:
        nonlocal encrypted
        encrypted = True
        return b""

    try:
        context.load_cert_chain(cert, key, password=no_password)
    except (OSError, ValueError) as error:
        if encrypted:
            problem = "its key is encrypted; give one without a password (openssl pkey -in FILE -out OTHER)"
        elif getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
            problem = f"this key is not that of the certificate in {plain(cert, _SHOWN)}"
        elif key is None:
            problem = f"has no certificate with its key {_ONE_PIECE}; name a key of its own with --client-key"
        else:
            problem = f"there is no certificate in {plain(cert, _SHOWN)}, or no key in this file, {_ONE_PIECE}"
        raise UsageError(f"{shown}: {problem}") from None


def _open(option: str, path: str) -> None:
    """Raises UsageError for a file that cannot be read; OpenSSL's own words do not say which."""
    try:
        if not Path(path).is_file():  # what is no file may never end
            raise OSError("is no file" if Path(path).exists() else "there is no such file")
        Path(path).open("rb").close()
    except (OSError, ValueError) as error:
        raise UsageError(f"{option} {plain(path, _SHOWN)}: {_said(error)}") from None


def _said(error: Exception) -> str:
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
    return plain(str(reason).lower().replace("_", " ") if isinstance(error, ssl.SSLError) else str(reason), _SHOWN)


# Failures in words

CUT_OFF = (
    "the connection was cut off in the TLS handshake: is that the right port, does it speak TLS, "
    "and does it want a client certificate (--client-cert)?"
)
"""Servers in Python end it like this whatever they miss."""
_WRONG_CA = "name its CA with --ca-file, or --insecure"
_CERTIFICATES = {
    9: "is not valid yet: is the clock right, here and there? --insecure goes on without a look",
    10: "has expired: renew it at the server, or go on with --insecure",
    62: "is for another name: put the name that it is for into the URL, or go on with --insecure",
    64: "is for another address: put the name that it is for into the URL, or go on with --insecure",
}
"""By OpenSSL's number (x509_vfy.h: X509_V_ERR_...)."""
_CLIENT_CERTIFICATE = "the server asks for a client certificate: name one with --client-cert (and --client-key)"
_REFUSED_CERTIFICATE = (
    "the server refuses the certificate that it was shown ({}): name one that it trusts with --client-cert"
)
_NO_TLS = "what answers there does not speak TLS: try http:// in place of https://"
_TOO_OLD = "no version of TLS in common: the server is to speak TLS 1.2 or 1.3"
_NOTHING_IN_COMMON = (
    "no way of TLS in common (version or cipher), or the server wants a client certificate: "
    "let it speak TLS 1.2 or 1.3, or name a certificate with --client-cert"
)
_REASONS = {
    **dict.fromkeys(
        (
            *("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "HTTPS_PROXY_REQUEST", "UNKNOWN_PROTOCOL", "BAD_RECORD_TYPE"),
            *("PACKET_LENGTH_TOO_LONG", "ENCRYPTED_LENGTH_TOO_LONG", "UNEXPECTED_RECORD", "RECORD_LAYER_FAILURE"),
        ),
        _NO_TLS,
    ),
    **dict.fromkeys(
        ("UNSUPPORTED_PROTOCOL", "TLSV1_ALERT_PROTOCOL_VERSION", "VERSION_TOO_LOW", "WRONG_SSL_VERSION"), _TOO_OLD
    ),
    **dict.fromkeys(
        (
            *("SSLV3_ALERT_HANDSHAKE_FAILURE", "TLSV1_ALERT_INSUFFICIENT_SECURITY", "NO_SHARED_CIPHER"),
            *(
                "NO_CIPHERS_AVAILABLE",
                "WRONG_CIPHER_RETURNED",
                "DH_KEY_TOO_SMALL",
                "UNSAFE_LEGACY_RENEGOTIATION_DISABLED",
            ),
        ),
        _NOTHING_IN_COMMON,
    ),
    **dict.fromkeys(
        ("TLSV13_ALERT_CERTIFICATE_REQUIRED", "PEER_DID_NOT_RETURN_A_CERTIFICATE", "SSLV3_ALERT_NO_CERTIFICATE"),
        _CLIENT_CERTIFICATE,
    ),
    **{
        reason: _REFUSED_CERTIFICATE.format(said)
        for reason, said in (
            ("TLSV1_ALERT_UNKNOWN_CA", "an unknown CA"),
            ("SSLV3_ALERT_BAD_CERTIFICATE", "bad"),
            ("SSLV3_ALERT_CERTIFICATE_EXPIRED", "expired"),
            ("SSLV3_ALERT_CERTIFICATE_REVOKED", "revoked"),
            ("SSLV3_ALERT_CERTIFICATE_UNKNOWN", "unknown"),
            ("SSLV3_ALERT_UNSUPPORTED_CERTIFICATE", "of a kind that it does not take"),
            ("TLSV1_ALERT_ACCESS_DENIED", "access denied"),
            ("TLSV1_ALERT_DECRYPT_ERROR", "its signature is wrong"),
        )
    },
    **dict.fromkeys(
        ("TLSV1_UNRECOGNIZED_NAME", "TLSV1_ALERT_UNRECOGNIZED_NAME"),
        "the server knows no host of this name: put the name that it serves into the URL",
    ),
    "TLSV1_ALERT_NO_APPLICATION_PROTOCOL": "the server does not offer HTTP/1.1: turn it on there, beside HTTP/2",
    "UNEXPECTED_EOF_WHILE_READING": CUT_OFF,
}
"""By OpenSSL's reason: what it means, and what to do."""


def tls_problem(error: ssl.SSLError) -> str:
    """Why TLS failed: what was seen, what it means, what to type."""
    reason = getattr(error, "reason", None) or ""  # one that OpenSSL did not make has none
    if isinstance(error, ssl.SSLCertVerificationError):
        said = plain(str(getattr(error, "verify_message", "") or reason or error), _SHOWN)
        if (meaning := _CERTIFICATES.get(getattr(error, "verify_code", 0))) is not None:
            return f"the certificate {meaning} ({said})"
        return f"the certificate is not trusted ({said}): {_WRONG_CA}"
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return _REASONS["UNEXPECTED_EOF_WHILE_READING"]
    seen = plain(reason.lower().replace("_", " ") or str(error), _SHOWN)
    return f"{_REASONS.get(reason, 'TLS failed: is that the right port?')} ({seen})"
