"""Several processes that train one model: how they find each other, agree, and notice that one is gone."""
