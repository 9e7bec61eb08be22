"""The factory: recipes of cloud-ready images that Landfall builds itself, for the demo and the tests."""
