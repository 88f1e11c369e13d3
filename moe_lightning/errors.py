"""Errors that a user can cause, and their codes."""

CODES = {
    "audio.channel": "The recording has no such channel.",
    "audio.cut-off": "The recording ends before the end that its header gives.",
    "audio.empty": "The recording holds no samples.",
    "audio.joined": "Decoders would read a part of the file only: it holds several recordings, or a wrong length.",
    "audio.no-folder": "The folder for noise or room responses holds no recordings.",
    "audio.not-finite": "The recording holds NaN or infinity.",
    "audio.out-of-range": "Samples lie far over full scale.",
    "audio.span": "The utterance lies outside of its recording.",
    "audio.too-large": "The recording would fill the memory.",
    "audio.too-long": "The utterance is longer than the speech model's window.",
    "audio.too-short": "The utterance is too short to hear anything in it.",
    "audio.unaligned": "No text of a long recording's transcript fits a stretch of it.",
    "audio.undecodable": "The file cannot be decoded as audio.",
    "audio.unusable": "Recordings of the corpus cannot be used; the message names the first.",
    "clusters.no-signal": "The features are the same for all utterances, so there is nothing to cluster.",
    "clusters.too-few": "The data has fewer different points, or fewer clusters, than experts are wanted.",
    "corpus.bad-row": "A line or an entry of the corpus lacks a field, or a field cannot be used.",
    "corpus.empty": "There is no utterance.",
    "corpus.few-speakers": "There are too few speakers or utterances to make a missing split.",
    "corpus.few-utterances": "There are fewer utterances than processes.",
    "corpus.id-twice": "Two utterances have the same id.",
    "corpus.no-field": "No utterance, or not every utterance, has the named field.",
    "corpus.no-split": "A split that is needed has no utterance.",
    "corpus.not-a-file": "The audio is no recording file: it comes from a program, or is changed as it is read.",
    "corpus.other-utterances": "Two things that belong together hold different utterances.",
    "corpus.outside-root": "A recording lies outside of the corpus folder.",
    "corpus.shared-recording": "A stretch of audio is in two splits.",
    "corpus.shared-speakers": "A speaker is in two splits.",
    "corpus.unknown-form": "The folder is of no form that can be read.",
    "embeddings.missing": "Utterances have no embedding.",
    "embeddings.no-frames": "The store has no encoder frames.",
    "embeddings.no-gradients": "The store has no gradients of the loss.",
    "embeddings.not-finite": "An embedding holds NaN or infinity.",
    "embeddings.other": "The embeddings were made with other settings or by another model.",
    "embeddings.shape": "Embeddings have another size than is needed.",
    "embeddings.shared-file": "One embedding file belongs to several utterances.",
    "experts.missing": "Experts have not been trained yet.",
    "experts.no-op": "The expert has no deltas, or is the last one with deltas, so this cannot be done with it.",
    "experts.number": "There is no expert of this number.",
    "experts.unfit": "Experts do not fit the model, or each other.",
    "file.changed": "A file has changed since it was written.",
    "file.cut-off": "A file breaks off.",
    "file.encoding": "A text file is not UTF-8.",
    "file.malformed": "A file lacks something, or holds something of another kind.",
    "file.missing": "A file or a folder is not there.",
    "file.not-regular": "A path is a pipe, a device or a folder, not a file.",
    "file.refused": "A checkpoint holds code; only tensors and plain values are read.",
    "file.too-large": "A file unpacks to more than it should hold.",
    "file.unreadable": "A file cannot be read.",
    "file.unwritable": "A file cannot be written.",
    "folder.busy": "Another process writes to the folder.",
    "folder.lost": "Another process has taken over the folder.",
    "folder.taken": "The folder holds something that would be overwritten.",
    "gate.unfit": "A trained gate does not fit the settings.",
    "labels.missing": "Utterances have no soft label, or an expert has no utterance.",
    "labels.other": "Gate or experts were trained on other soft labels.",
    "labels.probabilities": "A soft label is no distribution.",
    "labels.shape": "Labels have another shape than is needed.",
    "ladder.failed": "Runs of a ladder have stopped.",
    "ladder.no-score": "A run of a ladder has no score to be tuned on.",
    "language.missing": "An utterance names no language, and the model needs one.",
    "language.unknown": "The word names no language that is known.",
    "language.unsupported": "The model does not write this language.",
    "model.changed": "The speech model's weights are not those of before.",
    "model.damaged": "A file of the speech model is damaged.",
    "model.incomplete": "The folder of the speech model lacks files.",
    "model.unfit": "The speech model is of a kind that cannot be used here.",
    "model.unknown": "The speech model cannot be found.",
    "package.broken": "An installed package does not work.",
    "package.missing": "A package or a program is not installed.",
    "process.lost": "Another process of a distributed run has ended.",
    "run.inconsistent": "Two results of a run contradict each other.",
    "run.missing": "There is no such run.",
    "run.other-inputs": "A stage was made from other inputs.",
    "run.other-settings": "A stage was made with other settings.",
    "run.several": "The run holds several, and one must be chosen.",
    "run.stage-missing": "An earlier stage has not finished.",
    "setting.choice": "The value is none of those that are taken.",
    "setting.conflict": "Two settings, or a setting and the data, exclude each other.",
    "setting.debug-run": "The training of a pipeline is cut short.",
    "setting.hardware": "The machine cannot do what is asked.",
    "setting.missing": "A setting is needed here.",
    "setting.range": "The value lies outside of its range.",
    "setting.syntax": "The value cannot be read.",
    "setting.unknown": "There is no such setting, flag or command.",
    "training.not-finite": "A loss, gradient or weight is not finite.",
    "training.out-of-memory": "The memory does not suffice.",
    "transcript.control-token": "A transcript holds a token that controls the model.",
    "transcript.empty": "An utterance has no transcript.",
    "transcript.no-words": "Transcripts hold no word or character that can be used.",
    "transcript.not-trainable": "Transcripts cannot be trained on; the message names them.",
    "transcript.too-long": "A transcript has more tokens than the model holds.",
}
"""Every code with its meaning. The message of an error names the value, the rule and the remedy."""


class InputError(ValueError):
    """A wrong input from outside: a file, a flag, a value.

    Args:
        code: key of `CODES`; a program can rely on it.
        message: the value, the rule and the remedy, on one line.
        value: the offending value, where there is one: a path, an id, a number, or a setting by its name or flag.
    """

    def __init__(self, code: str, message: str, value: object = None) -> None:
        assert code in CODES, code
        super().__init__(code, message, value)
        self.code, self.message, self.value = code, message, value

    def __str__(self) -> str:
        return self.message


class MissingInputError(InputError, FileNotFoundError):
    """A file from an earlier command is missing; the message names the command."""


class StaleStageError(InputError):
    """A run folder holds a stage made with other settings."""


def printable(text: object) -> str:
    """A text on one line, control characters escaped, so that a file's name or contents cannot steer a terminal."""
    line = " ".join(str(text).split())
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in line)
