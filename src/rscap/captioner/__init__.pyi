from rscap.captioner.asking import Captioner, caption_all
from rscap.captioner.loading import ModelRef, load, load_together
from rscap.captioner.remote import RemoteCaptioner

__all__ = ["Captioner", "ModelRef", "RemoteCaptioner", "caption_all", "load", "load_together"]
