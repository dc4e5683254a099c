"""Reading of W&B's offline files."""

import json
import struct


def records_of(path):
    """Returns the records of a .wandb file, which is a LevelDB log after a header of 7 bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, record, position, records = path.read_bytes(), b"", 7, []
    while position + 7 <= len(data):
        room = 32768 - position % 32768
        if room < 7:
            position += room
            continue
        length, kind = struct.unpack_from("<HB", data, position + 4)
        record += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # complete, or the last part
            records.append(Record.FromString(record))
            record = b""
    return records


def history_of(records):
    """Returns the rows of the history, one dictionary for each."""
    return [
        {
            item.key or "/".join(item.nested_key): json.loads(item.value_json)
            for item in record.history.item
        }
        for record in records
        if record.HasField("history")
    ]
