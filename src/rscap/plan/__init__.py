"""What a recipe needs of a card before anything is loaded: memory by component, time, and settings that fit."""

from rscap.plan.cards import CARDS, Card, find_card
from rscap.plan.checkpointing import Choice, choose_checkpointing
from rscap.plan.request import Plan, plan_recipe

__all__ = ["CARDS", "Card", "Choice", "Plan", "choose_checkpointing", "find_card", "plan_recipe"]
