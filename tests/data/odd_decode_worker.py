"""A decoding process whose job obeys the image's bytes: stands for decoders that hang, crash, eat memory or exit."""

import os
import signal
import sys
import time
from dataclasses import replace

from caprl_core.data.decode_worker import serve
from caprl_core.data.images import Encoding, prepare_image
from caprl_core.data.sample import PreparedImage
from caprl_core.recipe.models import ImageRecipe


def job(data: bytes, recipe: ImageRecipe, encoding: Encoding) -> PreparedImage:
    match data.split(b"\n", 1)[0].decode("latin-1").split():
        case ["hang"]:
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
            while True:
                time.sleep(1)
        case ["signal", name]:
            os.kill(os.getpid(), signal.Signals[name])
            time.sleep(60)
        case ["exit", code]:
            print("last words", file=sys.stderr, flush=True)
            os._exit(int(code))
        case ["grow"]:
            return replace(PLAIN, encoded=bytes(2**34))
        case ["pid"]:
            return replace(PLAIN, encoded=str(os.getpid()).encode())
        case ["sleep", seconds]:
            time.sleep(float(seconds))
            return PLAIN
        case ["modules"]:
            return replace(PLAIN, encoded=" ".join(sorted(sys.modules)).encode())
        case ["environment"]:
            return replace(PLAIN, encoded="\n".join(os.environ).encode())
        case ["echo"]:
            return replace(PLAIN, encoded=data, notes=("echoed",))
    return prepare_image(data, recipe, encoding)


PLAIN = PreparedImage(b"", "", 0, "png", "PNG", 1, 1, 1, 1, b"")

if __name__ == "__main__":
    serve(job)
