"""Recognizer: the mixture of a finished run, for use in Python."""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from moe_lightning.data.audio import measured, read_header
from moe_lightning.errors import InputError
from moe_lightning.inference.transcribe import Transcript, read_speaker, transcribe_file
from moe_lightning.models.backbones.decoding import DecodeOptions
from moe_lightning.models.backbones.window import Window
from moe_lightning.models.device import autocast, choose_device
from moe_lightning.models.mixture import MixtureASR
from moe_lightning.models.routing import RoutingMode
from moe_lightning.run.folder import RunDir
from moe_lightning.run.inputs import check_run_model


class Recognizer:
    """A trained mixture, ready to transcribe.

    Args:
        run_dir: Folder of a finished run.
        accelerator: ``auto``, ``cpu`` or ``gpu``.
        precision: ``32-true``, ``bf16-mixed``, or on a GPU ``16-mixed``.
        routing: Replaces the trained routing, see `RoutingMode`.
        window: Replaces the trained window, see `parse_window`.

    Raises:
        MissingInputError: The run has no finished joint stage.
        InputError: An invalid argument, or the run's speech model has changed.
    """

    def __init__(
        self,
        run_dir: str | Path,
        accelerator: str = "auto",
        precision: str = "32-true",
        routing: RoutingMode | None = None,
        window: Window | None = None,
    ):
        run, device = RunDir(Path(run_dir)), choose_device(accelerator)
        autocast(device, precision)  # a wrong precision fails here, not at the first file
        self.precision = precision
        self.mixture = MixtureASR.load(run.mixture_files, device, routing, window)
        check_run_model(run, self.mixture.config.whisper_model)

    def transcribe(
        self, audio_file: str | Path, language: str = "auto", guard: bool = True, num_beams: int = 1
    ) -> Transcript:
        """Text of one audio file; arguments and errors as in `transcribe_all`."""
        (transcript,) = self.transcribe_all([audio_file], language, guard=guard, num_beams=num_beams)
        return transcript

    def transcribe_all(
        self,
        audio_files: Iterable[str | Path],
        language: str = "auto",
        same_speaker: bool = False,
        guard: bool = True,
        num_beams: int = 1,
        failed: dict[Path, InputError] | None = None,
    ) -> Iterator[Transcript]:
        """Text of audio files, one after another: wav, flac, ogg or mp3, with any rate and length.

        Args:
            language: Code or name of the language; ``auto`` lets a multilingual Whisper detect it, file by file.
            same_speaker: One person speaks in all files: the gate reads all of them before it chooses experts.
            guard: No text for silence and noise, no loops, see `DecodeOptions`.
            num_beams: Hypotheses that a CTC model keeps; Whisper takes 1.
            failed: Gets the error of each file that cannot be read, and the others are done; None raises it.

        Raises:
            InputError: A file is missing or no audio, or the model has no such language or options.
        """
        files = existing(audio_files) if failed is None else [Path(file) for file in audio_files]
        options = DecodeOptions(num_beams=num_beams, guard=guard)
        self.mixture.experts.backbone.check_options(options)
        code = self.mixture.experts.backbone.asked_language(language)
        return self._each(files, code, same_speaker, options, failed)

    def _each(
        self,
        files: list[Path],
        language: str | None,
        same_speaker: bool,
        options: DecodeOptions,
        failed: dict[Path, InputError] | None,
    ) -> Iterator[Transcript]:
        if failed is not None:
            files = [file for file in files if not _is_refused(file, failed)]
        speaker_1E = None
        if same_speaker and files:
            with self._precisely():
                speaker_1E = read_speaker(self.mixture, files)
        for file in files:
            try:
                with self._precisely():
                    transcript = transcribe_file(self.mixture, file, language, speaker_1E, options)
            except InputError as error:
                if failed is None:
                    raise
                failed[file] = error
                continue
            yield transcript

    def _precisely(self) -> AbstractContextManager[None]:
        """Context of the precision; never while the caller's own code runs."""
        return autocast(self.mixture.device, self.precision)


def _is_refused(file: Path, failed: dict[Path, InputError]) -> bool:
    """True for a file that cannot be read; notes the error."""
    try:
        existing([file])
        measured(file, read_header(file))
    except InputError as error:
        failed[file] = error
        return True
    return False


def existing(audio_files: Iterable[str | Path]) -> list[Path]:
    """The files as paths; an InputError names the first missing one."""
    files = [Path(file) for file in audio_files]
    missing = [file for file in files if not file.is_file()]
    if missing:
        raise InputError("file.missing", f"{missing[0]} is no file; give audio files (wav, flac, ogg, mp3)", missing[0])
    return files
