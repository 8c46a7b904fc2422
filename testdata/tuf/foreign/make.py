"""Made the repositories beside this file, once, with python-tuf 5.1.0 and securesystemslib 1.4.0:

    python3 make.py

They are the handwriting of another implementation: keys of three kinds, a chain of four
roots of which the middle ones have expired, members nobody knows, other white space,
delegations by glob, by hash prefix, by hash bin and under names that need escapes,
targets with SHA-512 and with two hashes. "flat" is without consistent snapshots. The
newest files expire in the year 2999; the keys are lost.
"""

import hashlib
import json
import os
from datetime import datetime, timezone
from urllib.parse import quote

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    DelegatedRole, Delegations, Metadata, MetaFile, Root, Snapshot, SuccinctRoles,
    TargetFile, Targets, Timestamp,
)
from tuf.api.serialization.json import JSONSerializer

FAR = datetime(2999, 1, 1, tzinfo=timezone.utc)
PAST = datetime(2020, 1, 1, tzinfo=timezone.utc)


def put(base, name, data):
    path = os.path.join(base, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as f:
        f.write(data)


def repository(base, consistent):
    rsa, p256, ed = CryptoSigner.generate_rsa(), CryptoSigner.generate_ecdsa(), CryptoSigner.generate_ed25519()
    online = {r: CryptoSigner.generate_ecdsa() for r in ("timestamp", "snapshot", "targets")}

    def sign(md, signers):
        for s in signers:
            md.sign(s, append=True)
        return md.to_bytes(JSONSerializer(compact=False))

    # Four roots; the keys of the root change with every one.
    generations = [[rsa, p256], [p256, ed], [ed, CryptoSigner.generate_rsa()]]
    generations.append([generations[2][1], CryptoSigner.generate_ed25519()])
    before = []
    for i, signers in enumerate(generations, 1):
        root = Root(version=i, expires=FAR if i in (1, 4) else PAST, consistent_snapshot=consistent)
        for s in signers:
            root.add_key(s.public_key, "root")
        root.roles["root"].threshold = 2
        for role, s in online.items():
            s.public_key.unrecognized_fields["x-made-of"] = {"b": 2, "a": [1, None]}
            root.add_key(s.public_key, role)
        root.unrecognized_fields["x-note"] = "äöü \u2028 \\ \" /"
        new = [s for s in signers if s not in before]
        data = sign(Metadata(root), before + new)
        put(base, f"metadata/{i}.root.json", data)
        before = signers

    roles, meta = {}, {}

    def target(targets, name, content, hashes=("sha256",)):
        t = TargetFile.from_data(name, content, list(hashes))
        targets.targets[name] = t
        parent, _, last = name.rpartition("/")
        for h in t.hashes.values():
            # Escaped on the disk as in a request: a Go module holds no file with a "?".
            file = quote(f"{h}.{last}" if consistent else last)
            put(base, "targets/" + (parent + "/" if parent else "") + file, content)

    def publish(name, targets, signers):
        data = sign(Metadata(targets), signers)
        put(base, f"metadata/{targets.version}.{quote(name, '')}.json" if consistent else f"metadata/{quote(name, '')}.json", data)
        meta[f"{name}.json"] = MetaFile(targets.version, len(data), {"sha256": hashlib.sha256(data).hexdigest(), "sha512": hashlib.sha512(data).hexdigest()})

    top = Targets(version=7, expires=FAR)
    target(top, "plain.txt", b"plain\n")
    target(top, "both.txt", b"two hashes\n", ("sha512", "sha256"))
    target(top, "long.txt", b"sha512 only\n", ("sha512",))
    prefix = hashlib.sha256(b"by/prefix.txt").hexdigest()[:3]
    top.delegations = Delegations({}, roles={})
    by_prefix = Targets(version=1, expires=FAR)
    target(by_prefix, "by/prefix.txt", b"found by its hash\n")
    odd = Targets(version=3, expires=FAR)
    target(odd, "odd/a b?#%.txt", b"odd names\n")
    bins = Targets(version=2, expires=FAR)
    for role, signer, targets in (
        (DelegatedRole("by-prefix", [], 1, False, path_hash_prefixes=[prefix]), ed, by_prefix),
        (DelegatedRole("../Odd/röle ?#", [], 1, True, paths=["odd/*"]), p256, odd),
        (DelegatedRole("bins", [], 1, False, paths=["bins/*"]), rsa, bins),
    ):
        top.delegations.roles[role.name] = role
        top.add_key(signer.public_key, role.name)
        roles[role.name] = (signer, targets)
    succinct = SuccinctRoles([], 1, 3, "bin")
    bins.delegations = Delegations({}, succinct_roles=succinct)
    bins.add_key(ed.public_key)
    for name in succinct.get_roles():
        t = Targets(version=1, expires=FAR)
        for n in ("bins/one.txt", "bins/two.txt"):
            if succinct.get_role_for_target(n) == name:
                target(t, n, f"{n}\n".encode())
        roles[name] = (ed, t)
    publish("targets", top, [online["targets"]])
    for name, (signer, targets) in roles.items():
        publish(name, targets, [signer])
    snapshot = Snapshot(version=12, expires=FAR, meta=meta)
    data = sign(Metadata(snapshot), [online["snapshot"]])
    put(base, "metadata/12.snapshot.json" if consistent else "metadata/snapshot.json", data)
    timestamp = Timestamp(version=40, expires=FAR, snapshot_meta=MetaFile(12, len(data), {"sha256": hashlib.sha256(data).hexdigest()}))
    put(base, "metadata/timestamp.json", sign(Metadata(timestamp), [online["timestamp"]]) + b" \n\t ")


here = os.path.dirname(os.path.abspath(__file__))
repository(os.path.join(here, "consistent"), True)
repository(os.path.join(here, "flat"), False)
