"""Predict what a recipe needs before anything is loaded: memory by component, time, and settings that fit a card."""

from rscap.planning.cards import CARDS, Card, find_card
from rscap.planning.request import Plan, plan_recipe
from rscap.planning.search import Choice, choose_checkpointing

__all__ = ["CARDS", "Card", "Choice", "Plan", "choose_checkpointing", "find_card", "plan_recipe"]
